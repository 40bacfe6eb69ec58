# Completion of memcachedlock for fish.

function __memcachedlock_keys
    # Where the line says that the locks are; its words are never evaluated.
    set -l words (commandline -opc)
    set -l where
    for at in (seq 2 (count $words))
        switch $words[$at]
            case '--servers=*' '--scope=*' '--prefix=*' '--sasl-user=*' '--password-file=*'
                set -a where $words[$at]
            case --servers --scope --prefix --sasl-user --password-file
                set -q words[(math $at + 1)]; and set -a where $words[$at]=$words[(math $at + 1)]
        end
    end
    # Not for long, as the server may be away, or have many other items.
    command memcachedlock $where --request-timeout 200ms list --names --within 200ms 2>/dev/null
end

# What follows -- is a command line of its own.
function __memcachedlock_in_command
    contains -- -- (commandline -opc)
end
function __memcachedlock_command
    set -l words (commandline -opc)
    set -l end (contains -i -- -- $words)
    set -e words[1..$end]
    complete -C "$words "(commandline -ct)
end

set -l commands run inspect list top break doctor servers
set -l none "not __fish_seen_subcommand_from $commands"

complete -c memcachedlock -f
complete -c memcachedlock -n $none -a run -d 'Run a command while a lock is held'
complete -c memcachedlock -n $none -a inspect -d 'Who holds a lock'
complete -c memcachedlock -n $none -a list -d 'All locks'
complete -c memcachedlock -n $none -a top -d 'All locks, live'
complete -c memcachedlock -n $none -a break -d 'Free a lock'
complete -c memcachedlock -n $none -a doctor -d 'Check the servers'
complete -c memcachedlock -n $none -a servers -d 'The list of servers'
complete -c memcachedlock -n $none -l version -d 'Print the version'

complete -c memcachedlock -n __memcachedlock_in_command -a '(__memcachedlock_command)'
complete -c memcachedlock -n '__fish_seen_subcommand_from run inspect break; and not __memcachedlock_in_command' -a '(__memcachedlock_keys)'

complete -c memcachedlock -l servers -x -d 'host:port or socket, separated by commas'
complete -c memcachedlock -l scope -x -d 'Put in front of the key'
complete -c memcachedlock -l prefix -x -d 'Of all keys'
complete -c memcachedlock -l sasl-user -x -d 'Log in as this user'
complete -c memcachedlock -l password-file -r -F -d 'Its first line is the password'
complete -c memcachedlock -l request-timeout -x -a '500ms 1s 5s' -d 'Longest wait for the server'
complete -c memcachedlock -l json -d 'Print JSON'
complete -c memcachedlock -l colour -x -a 'auto always never' -d 'Use of colour'
complete -c memcachedlock -l help -d 'Print help'

set -l run '__fish_seen_subcommand_from run'
complete -c memcachedlock -n $run -s w -l wait -x -a '500ms 30s 2m' -d 'Longest wait for the lock'
complete -c memcachedlock -n $run -s n -l no-wait -d 'Do not wait'
complete -c memcachedlock -n $run -s E -l conflict-exit-code -x -d 'Status when it is not had in time'
complete -c memcachedlock -n $run -l timeout -x -a '30s 2m' -d 'Length of the lease'
complete -c memcachedlock -n $run -l fair -d 'Not needed: all waits are first come, first served'
complete -c memcachedlock -n $run -l on-lost -x -a 'term kill ignore' -d 'When the lock is lost'
complete -c memcachedlock -n $run -l grace -x -a '10s 1m' -d 'From SIGTERM to SIGKILL'
complete -c memcachedlock -n $run -l shell -x -d 'A command for /bin/sh'

complete -c memcachedlock -n $run -l key -x -a '(__memcachedlock_keys)' -d 'The lock'
complete -c memcachedlock -n '__fish_seen_subcommand_from list' -l names -d 'Only the names'
complete -c memcachedlock -n '__fish_seen_subcommand_from list' -l within -x -a '200ms 1s' -d 'Longest time'
complete -c memcachedlock -n '__fish_seen_subcommand_from top' -s d -l interval -x -a '1s 5s' -d 'Between two looks'
complete -c memcachedlock -n '__fish_seen_subcommand_from top' -s n -l count -x -d 'How many looks'
complete -c memcachedlock -n '__fish_seen_subcommand_from break' -s y -l yes -d 'Without asking'

set -l servers '__fish_seen_subcommand_from servers'
complete -c memcachedlock -n $servers -a 'show move'
complete -c memcachedlock -n $servers -l to -x -d 'The new list'
complete -c memcachedlock -n $servers -l wait -x -a '2s 30s' -d 'In place of the longest lease'
complete -c memcachedlock -n $servers -l gone -x -d 'A server that is dead for good'
complete -c memcachedlock -n $servers -l begin -d 'Only make both lists known'
complete -c memcachedlock -n $servers -l finish -d 'The rest'
complete -c memcachedlock -n $servers -s y -l yes -d 'Without asking'
