# Completion of memcachedlock for bash.

_memcachedlock() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
  local common='--servers --scope --prefix --sasl-user --password-file --request-timeout --json
    --colour --help'
  local command='' at
  for ((at = 1; at < COMP_CWORD; ++at)); do
    case ${COMP_WORDS[at]} in
      --)
        # What follows is a command line of its own.
        _command_offset $((at + 1)) 2>/dev/null || mapfile -t COMPREPLY < <(compgen -c -- "$word")
        return
        ;;
      run | inspect | list | top | break | doctor)
        command=${COMP_WORDS[at]}
        ;;
    esac
  done
  if [[ $before =~ ^(run|inspect|break)$ && $word != -* ]]; then
    # The locks that are there now; not for long, as the server may be away.
    mapfile -t COMPREPLY < <(compgen -W "$("${COMP_WORDS[0]}" --request-timeout 200ms list \
      2>/dev/null | sed -n '2,$s/ .*//p')" -- "$word")
    return
  fi
  local choices
  case $before in
    --on-lost) choices='term kill ignore' ;;
    --colour) choices='auto always never' ;;
    --wait | -w | --timeout | --grace | --request-timeout | --interval | -d) choices='500ms 30s 2m' ;;
    --password-file)
      mapfile -t COMPREPLY < <(compgen -f -- "$word")
      return
      ;;
    --servers | --scope | --prefix | --sasl-user | --count | --conflict-exit-code | -E | --shell)
      return
      ;;
    *)
      case $command in
        '') choices="run inspect list top break doctor --version $common" ;;
        run)
          choices="--wait --no-wait --conflict-exit-code --timeout --fair --on-lost --grace --shell
            -- $common"
          ;;
        top) choices="--interval --count $common" ;;
        break) choices="--yes $common" ;;
        *) choices=$common ;;
      esac
      ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$word")
}
complete -F _memcachedlock memcachedlock
