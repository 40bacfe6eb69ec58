# shellcheck shell=bash
# To be sourced.
# chart JSON SVG CASES X FIGURE XLABEL TITLE: a line for each side over X, of those entries of JSON
# for which CASES, a condition of jq, holds.
chart() {
  local json=$1 svg=$2 cases=$3 x=$4 figure=$5 xlabel=$6 title=$7 points side sides plots=()
  points=$(mktemp -d)
  mapfile -t sides < <(jq -r "map(select($cases) | select(.$figure > 0).side) | unique[]" "$json")
  for side in "${sides[@]}"; do
    jq -r --arg side "$side" ".[] | select(.side == \$side and $cases) | \"\\($x) \\(.$figure)\"" \
      "$json" >"$points/$side"
    plots+=("'$points/$side' with linespoints title '$side'")
  done
  gnuplot <<PLOT
set terminal svg size 720,420 background 'white'
set output '$svg'
set title '$title'
set xlabel '$xlabel'
set yrange [0:*]
set key outside right noenhanced
set grid
plot $(IFS=,; echo "${plots[*]}")
PLOT
  rm -rf "$points"
}
