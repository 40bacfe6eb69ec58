# Completion of memcachedlock for bash.

# What of the line tells where to look for locks, without the quotes that it is written with. Names
# of locks and the words of the line are never evaluated.
_memcachedlock_where() {
  local at word
  where=()
  for ((at = 1; at < ${#words[@]}; ++at)); do
    word=${words[at]}
    case $word in
      --) return ;;
      --servers=* | --scope=* | --prefix=* | --sasl-user=* | --password-file=*)
        where+=("${word//[\"\'\\]/}")
        ;;
      --servers | --scope | --prefix | --sasl-user | --password-file)
        ((at + 1 == cword || at + 1 >= ${#words[@]})) || where+=("$word=${words[at + 1]//[\"\'\\]/}")
        ;;
    esac
  done
}

# The locks that are there now; not for long, as the server may be away, or have many other items.
_memcachedlock_keys() {
  local name quoted where
  _memcachedlock_where
  while IFS= read -r name; do
    printf -v quoted %q "$name"
    if [[ $name == "$word"* || $quoted == "$word"* ]]; then COMPREPLY+=("$quoted"); fi
  done < <(command memcachedlock "${where[@]}" --request-timeout 200ms list --names --within 200ms \
    2>/dev/null)
  # Where : = or @ part words for readline, only what follows the last one is replaced.
  part=${COMP_WORDS[COMP_CWORD]}
  [[ $part == [:=@]* ]] && part=''
  COMPREPLY=("${COMPREPLY[@]#"${word%"$part"}"}")
}

_memcachedlock() {
  local words=() cword=0 word='' before='' part at
  # Words of the line, not parted at : and =.
  for ((at = 0; at <= COMP_CWORD; ++at)); do
    part=${COMP_WORDS[at]}
    if ((at > 0)) && [[ ($part == [:=]* || ${COMP_WORDS[at - 1]} == *[:=]) && ${#words[@]} -gt 1 ]]; then
      words[${#words[@]} - 1]+=$part
    else
      words+=("$part")
    fi
  done
  cword=$((${#words[@]} - 1))
  word=${words[cword]}
  before=${words[cword - 1]}
  local common='--servers --scope --prefix --sasl-user --password-file --request-timeout --json
    --colour --help'
  local command=''
  COMPREPLY=()
  for ((at = 1; at < COMP_CWORD; ++at)); do
    case ${COMP_WORDS[at]} in
      --)
        # What follows is a command line of its own.
        _command_offset $((at + 1)) 2>/dev/null || mapfile -t COMPREPLY < <(compgen -c -- "$word")
        return
        ;;
      run | inspect | list | top | break | doctor | servers)
        [[ $command ]] || command=${COMP_WORDS[at]}
        ;;
    esac
  done
  if [[ $before =~ ^(run|inspect|break|--key)$ && $word != -* ]]; then
    _memcachedlock_keys
    return
  fi
  local choices
  case $before in
    --on-lost) choices='term kill ignore' ;;
    --colour) choices='auto always never' ;;
    --wait | -w | --timeout | --grace | --request-timeout | --interval | -d | --within)
      choices='500ms 30s 2m'
      ;;
    --password-file)
      mapfile -t COMPREPLY < <(compgen -f -- "$word")
      return
      ;;
    --servers | --to | --gone | --scope | --prefix | --sasl-user | --count | --conflict-exit-code | -E | --shell)
      return
      ;;
    *)
      case $command in
        '') choices="run inspect list top break doctor servers --version $common" ;;
        run)
          choices="--wait --no-wait --conflict-exit-code --timeout --fair --on-lost --grace --shell
            --key -- $common"
          ;;
        inspect) choices="--key $common" ;;
        list) choices="--names --within $common" ;;
        top) choices="--interval --count $common" ;;
        break) choices="--yes --key $common" ;;
        servers) choices="show move --to --wait --gone --begin --finish --yes $common" ;;
        *) choices=$common ;;
      esac
      ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$word")
}
complete -F _memcachedlock memcachedlock
