#!/usr/bin/env bash
# man_page_test.sh PAGE PROGRAM: the page has no mistakes of form, and names every option that the
# program has.
set -euo pipefail
page=$1 program=$2
warnings=$(groff -man -Tutf8 -ww "$page" 2>&1 >/dev/null)
[ -z "$warnings" ] || { echo "$warnings"; exit 1; }
text=$(sed 's/\\-/-/g' "$page")
for command in '' run inspect list top break doctor 'servers show' 'servers move'; do
  # shellcheck disable=SC2086  # the empty word is none
  "$program" $command --help | grep -o -E -- '--[a-z-]+' | sort -u | while read -r option; do
    case $option in --help | --color | --version) continue ;; esac
    grep -q -e "$option" <<<"$text" || { echo "$option of \"$command\" is not in the page"; exit 1; }
  done
done
