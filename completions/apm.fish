# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_apm_global_optspecs
    string join \n color= q/quiet v/verbose config= set= h/help V/version
end

function __fish_apm_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_apm_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_apm_using_subcommand
    set -l cmd (__fish_apm_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c apm -n "__fish_apm_needs_command" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_needs_command" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_needs_command" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_needs_command" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_needs_command" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_needs_command" -s V -l version -d 'Print version'
complete -c apm -n "__fish_apm_needs_command" -f -a "run" -d 'Run a workflow, a plan file or a command for each of many values, in parallel'
complete -c apm -n "__fish_apm_needs_command" -f -a "doctor" -d 'Say what is wrong with this machine, who causes it, on what evidence, and what to do'
complete -c apm -n "__fish_apm_needs_command" -f -a "tune" -d 'Say which settings of this machine should be others, and why; write, check, apply and roll them back'
complete -c apm -n "__fish_apm_needs_command" -f -a "profile" -d 'Say where the time of a command or process goes, by function'
complete -c apm -n "__fish_apm_needs_command" -f -a "config" -d 'Show, check, explain or create the configuration'
complete -c apm -n "__fish_apm_needs_command" -f -a "help" -d 'Explain a command or a topic: `apm help run qa`, `apm help exit-codes`'
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -l resume -d 'Go on with the last run of this folder, of FILE, or with a named one: what passed is not run again' -r
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -l replay -d 'Render the report of a recorded run again, in any format' -r
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -s j -l agents -l jobs -d 'Run at most N tasks at once [default: the usable CPUs, or the configuration]' -r
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -l memory -d 'Memory ceiling of the whole run, for instance 4GiB' -r
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -l cpu -d 'CPU ceiling of the whole run, in percent of the machine' -r
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -l timeout -d 'Stop an attempt that runs longer, for instance 10m; 0 means no limit' -r
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -l deadline -d 'Stop the whole run after this time; exit code 5; 0 means no limit' -r
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -l retries -d 'Repeat a failed task up to N times, with growing delays' -r
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -l sandbox -d 'Confine what is run: its folder and temporary files are all it can write, secrets are unreadable, the network is off' -r -f -a "require\t'Wholly, or not started'
best\t'As far as this machine can'
off\t'Not, where the plan does not ask for it'"
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -l fail-on -d 'Also fail, with exit code 1, where a task passed only after a failure' -r -f -a "flaky\t'A task that passed only after a failure'"
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -l format -d 'What goes to standard output' -r -f -a "text\t'For people'
json\t'One document'
ndjson\t'The event stream, one event a line, as it happens'
junit\t'JUnit XML'
markdown\t'Markdown'
html\t'One self-contained page'
trace\t'Trace events for Perfetto'
github\t'Annotations of GitHub workflows'"
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -s o -l output -d 'Write a report to a file as well, whose folder is made; repeatable, for instance -o junit=report.xml -o html=report.html' -r
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -l relay -d 'Relay the output of tasks to standard output, a whole task at a time'
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -l fail-fast -d 'Stop at the first failure; `when: always` and `failure` still run'
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -l strict -d 'Count skipped and missing tools as incomplete (exit code 3) and warnings as failures'
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -l dry-run -d 'Print the plan with the reason for each task, start nothing'
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -l no-journal -d 'Keep no record: no --resume, no `apm run show`, no learned durations'
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -a "qa" -d 'Find what there is to check in this repository and check it'
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -a "each" -d 'Run a command once for each value, as xargs and GNU parallel do'
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -a "list" -d 'List recorded runs, newest first'
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -a "ls" -d 'List recorded runs, newest first'
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -a "show" -d 'Show a recorded run, or the output of one of its tasks'
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -a "watch" -d 'Follow a run from another terminal, until it ends'
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -a "cancel" -d 'Cancel a run that goes on, or some of its tasks'
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -a "pause" -d 'Pause a run that goes on, or some of its tasks'
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -a "unpause" -d 'Let a paused run go on, or some of its tasks'
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -a "set" -d 'Change limits and priorities of a run that goes on'
complete -c apm -n "__fish_apm_using_subcommand run; and not __fish_seen_subcommand_from qa each list ls show watch cancel pause unpause set add" -a "add" -d 'Add the tasks of a plan file to a run that goes on'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from qa" -l only -d 'Only these categories (format, lint, types, build, tests, audit, docs), tools or task ids' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from qa" -l skip -d 'Leave these categories, tools or task ids out' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from qa" -s j -l agents -l jobs -d 'Run at most N tasks at once [default: the usable CPUs, or the configuration]' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from qa" -l memory -d 'Memory ceiling of the whole run, for instance 4GiB' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from qa" -l cpu -d 'CPU ceiling of the whole run, in percent of the machine' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from qa" -l timeout -d 'Stop an attempt that runs longer, for instance 10m; 0 means no limit' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from qa" -l deadline -d 'Stop the whole run after this time; exit code 5; 0 means no limit' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from qa" -l retries -d 'Repeat a failed task up to N times, with growing delays' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from qa" -l sandbox -d 'Confine what is run: its folder and temporary files are all it can write, secrets are unreadable, the network is off' -r -f -a "require\t'Wholly, or not started'
best\t'As far as this machine can'
off\t'Not, where the plan does not ask for it'"
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from qa" -l fail-on -d 'Also fail, with exit code 1, where a task passed only after a failure' -r -f -a "flaky\t'A task that passed only after a failure'"
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from qa" -l format -d 'What goes to standard output' -r -f -a "text\t'For people'
json\t'One document'
ndjson\t'The event stream, one event a line, as it happens'
junit\t'JUnit XML'
markdown\t'Markdown'
html\t'One self-contained page'
trace\t'Trace events for Perfetto'
github\t'Annotations of GitHub workflows'"
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from qa" -s o -l output -d 'Write a report to a file as well, whose folder is made; repeatable, for instance -o junit=report.xml -o html=report.html' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from qa" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from qa" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from qa" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from qa" -l fix -d 'Let formatters and linters change files, then check'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from qa" -l fail-fast -d 'Stop at the first failure; `when: always` and `failure` still run'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from qa" -l strict -d 'Count skipped and missing tools as incomplete (exit code 3) and warnings as failures'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from qa" -l dry-run -d 'Print the plan with the reason for each task, start nothing'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from qa" -l no-journal -d 'Keep no record: no --resume, no `apm run show`, no learned durations'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from qa" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from qa" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from qa" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from each" -l colsep -d 'Split each value into columns {1} {2} ... at this text, no regular expression; \\t is a tab' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from each" -s n -l max-args -d 'Pass up to N values to each command, as many as fit' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from each" -s a -l arg-file -d 'Read values from this file, not from standard input' -r -F
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from each" -l halt -d 'When to stop: never, or now|soon,fail|success|done=N or N%' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from each" -l joblog -d 'Write a table of what ran, as GNU parallel does' -r -F
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from each" -s j -l agents -l jobs -d 'Run at most N tasks at once [default: the usable CPUs, or the configuration]' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from each" -l memory -d 'Memory ceiling of the whole run, for instance 4GiB' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from each" -l cpu -d 'CPU ceiling of the whole run, in percent of the machine' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from each" -l timeout -d 'Stop an attempt that runs longer, for instance 10m; 0 means no limit' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from each" -l deadline -d 'Stop the whole run after this time; exit code 5; 0 means no limit' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from each" -l retries -d 'Repeat a failed task up to N times, with growing delays' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from each" -l sandbox -d 'Confine what is run: its folder and temporary files are all it can write, secrets are unreadable, the network is off' -r -f -a "require\t'Wholly, or not started'
best\t'As far as this machine can'
off\t'Not, where the plan does not ask for it'"
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from each" -l fail-on -d 'Also fail, with exit code 1, where a task passed only after a failure' -r -f -a "flaky\t'A task that passed only after a failure'"
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from each" -l format -d 'What goes to standard output' -r -f -a "text\t'For people'
json\t'One document'
ndjson\t'The event stream, one event a line, as it happens'
junit\t'JUnit XML'
markdown\t'Markdown'
html\t'One self-contained page'
trace\t'Trace events for Perfetto'
github\t'Annotations of GitHub workflows'"
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from each" -s o -l output -d 'Write a report to a file as well, whose folder is made; repeatable, for instance -o junit=report.xml -o html=report.html' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from each" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from each" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from each" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from each" -s 0 -l null -d 'Values are separated by NUL characters, not line breaks'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from each" -s k -l keep-order -d 'Print outputs in the order of the values'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from each" -l line-buffer -l lb -d 'Print output lines as they come, not a whole task at a time'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from each" -l tag -d 'Put the value and a tab before each line of output'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from each" -l eta -d 'Print progress and an estimate of the rest, also where standard error is no terminal'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from each" -l shell -d 'Hand the command to /bin/sh; values are quoted'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from each" -l fail-fast -d 'Stop at the first failure; `when: always` and `failure` still run'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from each" -l strict -d 'Count skipped and missing tools as incomplete (exit code 3) and warnings as failures'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from each" -l dry-run -d 'Print the plan with the reason for each task, start nothing'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from each" -l no-journal -d 'Keep no record: no --resume, no `apm run show`, no learned durations'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from each" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from each" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from each" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from list" -s n -l limit -d 'How many' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from list" -l format -d 'What goes to standard output' -r -f -a "text\t'For people'
json\t'One document'"
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from list" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from list" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from list" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from ls" -s n -l limit -d 'How many' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from ls" -l format -d 'What goes to standard output' -r -f -a "text\t'For people'
json\t'One document'"
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from ls" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from ls" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from ls" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from ls" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from ls" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from show" -l attempt -d 'Print the output of this attempt of the task, not of the last one' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from show" -l format -d 'What goes to standard output' -r -f -a "text\t'For people'
json\t'One document'
ndjson\t'The event stream, one event a line, as it happens'
junit\t'JUnit XML'
markdown\t'Markdown'
html\t'One self-contained page'
trace\t'Trace events for Perfetto'
github\t'Annotations of GitHub workflows'"
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from show" -s o -l output -d 'Write a report to a file as well; repeatable' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from show" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from show" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from show" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from show" -l waiting -d 'Say what each unfinished task waits for: needs, resources and who holds them, memory, back-off, pause'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from show" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from show" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from watch" -l output -d 'Follow the output of this task; ends with it, with exit code 1 if it does not pass' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from watch" -l format -d 'What goes to standard output' -r -f -a "text\t'Progress on standard error, the summary at the end'
ndjson\t'The events, one a line, from the first on'"
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from watch" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from watch" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from watch" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from watch" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from watch" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from watch" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from cancel" -l format -d 'What goes to standard output' -r -f -a "text\t'For people'
json\t'One document'"
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from cancel" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from cancel" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from cancel" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from cancel" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from cancel" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from cancel" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from pause" -l format -d 'What goes to standard output' -r -f -a "text\t'For people'
json\t'One document'"
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from pause" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from pause" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from pause" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from pause" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from pause" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from pause" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from unpause" -l format -d 'What goes to standard output' -r -f -a "text\t'For people'
json\t'One document'"
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from unpause" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from unpause" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from unpause" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from unpause" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from unpause" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from unpause" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from set" -s j -l agents -l jobs -d 'Tasks at once' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from set" -l priority -d 'Priority of a task; repeatable' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from set" -l memory -d 'Memory ceiling of the whole run, for instance 4GiB' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from set" -l resource -d 'Capacity of a named resource; repeatable' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from set" -l format -d 'What goes to standard output' -r -f -a "text\t'For people'
json\t'One document'"
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from set" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from set" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from set" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from set" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from set" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from set" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from add" -l format -d 'What goes to standard output' -r -f -a "text\t'For people'
json\t'One document'"
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from add" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from add" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from add" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from add" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from add" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand run; and __fish_seen_subcommand_from add" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand doctor" -l duration -d 'How long to look: rates are over this time; `doctor.window_seconds` where not given, else 2s' -r
complete -c apm -n "__fish_apm_using_subcommand doctor" -l format -d 'What goes to standard output' -r -f -a "text\t'For people'
json\t'The whole diagnosis, schema apm.doctor/1'
ndjson\t'With --watch: one change a line'
sarif\t'SARIF 2.1.0'
junit\t'JUnit XML: a suite an area, a case a rule'
github\t'Annotations of GitHub workflows'
prometheus\t'Metrics for the textfile collector of Prometheus\' node_exporter'
html\t'One self-contained page with charts'"
complete -c apm -n "__fish_apm_using_subcommand doctor" -s o -l output -d 'Write a report to a file too, for instance `-o sarif=doctor.sarif`; repeatable' -r
complete -c apm -n "__fish_apm_using_subcommand doctor" -l fail-on -d 'Exit with 1 from findings of this severity on' -r -f -a "info\t'Any finding'
warn\t'Warnings'
crit\t'Critical findings (the default)'
never\t'None'"
complete -c apm -n "__fish_apm_using_subcommand doctor" -l only -d 'Only these rules; repeatable, or with commas' -r
complete -c apm -n "__fish_apm_using_subcommand doctor" -l ignore -d 'Not these rules; repeatable, or with commas' -r
complete -c apm -n "__fish_apm_using_subcommand doctor" -l threshold -d 'Other thresholds for a rule, for instance `mem.available=15:8`; an empty side keeps the rule silent there' -r
complete -c apm -n "__fish_apm_using_subcommand doctor" -l probe -d 'Also ask nameservers, proxies and hosts (HOST, HOST:PORT or a URL; without any those of *_BASE_URL variables)' -r
complete -c apm -n "__fish_apm_using_subcommand doctor" -l explain -d 'Explain a rule: what it reads, computes, against which thresholds, and what helps; as text or JSON' -r
complete -c apm -n "__fish_apm_using_subcommand doctor" -l pid -d 'Say why this process, with its threads and children, is not faster' -r
complete -c apm -n "__fish_apm_using_subcommand doctor" -l cgroup -d 'The same for the processes of a control group, for instance `/system.slice/nginx.service`' -r
complete -c apm -n "__fish_apm_using_subcommand doctor" -l every -d 'How often --watch reads stalls, CPU and memory; everything else it reads every 10 s' -r
complete -c apm -n "__fish_apm_using_subcommand doctor" -l agents -d 'Whether so many agents fit at once' -r
complete -c apm -n "__fish_apm_using_subcommand doctor" -l agent-memory -d 'Memory of one agent [default: the configuration\'s limit for one, else 1.5GiB]' -r
complete -c apm -n "__fish_apm_using_subcommand doctor" -l agent-cpu -d 'CPU of one agent in percent of one CPU [default: the configuration\'s limit for one, else 100]' -r
complete -c apm -n "__fish_apm_using_subcommand doctor" -l agent-disk -d 'Disk space of one agent\'s work tree and build' -r
complete -c apm -n "__fish_apm_using_subcommand doctor" -l save -d 'Save what was seen, to be looked at elsewhere with --from; it holds no command lines and no environments' -r -F
complete -c apm -n "__fish_apm_using_subcommand doctor" -l from -d 'Look at what was saved instead of this machine' -r -F
complete -c apm -n "__fish_apm_using_subcommand doctor" -l root -d 'Read the kernel\'s files below this folder; given twice, the second is the machine at the end of the window' -r -F
complete -c apm -n "__fish_apm_using_subcommand doctor" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand doctor" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand doctor" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand doctor" -l quick -d 'Look for half a second only'
complete -c apm -n "__fish_apm_using_subcommand doctor" -l strict -d 'Exit with 3 where a rule could not look'
complete -c apm -n "__fish_apm_using_subcommand doctor" -l list-rules -d 'List the rules with the thresholds in effect, as text or JSON'
complete -c apm -n "__fish_apm_using_subcommand doctor" -l watch -d 'Say what is wrong, then look again and again and say what changes; as ndjson one event a line. Ctrl-C ends it'
complete -c apm -n "__fish_apm_using_subcommand doctor" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand doctor" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand tune; and not __fish_seen_subcommand_from plan write check diff apply rollback history explain env" -l workload -d 'What the machine is for' -r -f -a "agents\t'Coding agents with their builds and tests, many at once'
ci\t'Builds and tests'
server\t'A server with many connections'
desktop\t'Somebody sits in front of it'"
complete -c apm -n "__fish_apm_using_subcommand tune; and not __fish_seen_subcommand_from plan write check diff apply rollback history explain env" -l agents -d 'Agents, jobs or workers at once [default: one a CPU]' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and not __fish_seen_subcommand_from plan write check diff apply rollback history explain env" -l bandwidth -d 'Speed of the way that matters, bits a second: 1G, 500M. With --rtt it decides about buffers' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and not __fish_seen_subcommand_from plan write check diff apply rollback history explain env" -l rtt -d 'Round trip of that way: 40ms' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and not __fish_seen_subcommand_from plan write check diff apply rollback history explain env" -l only -d 'Only settings whose key begins so: vm, net.ipv4, vm.swappiness' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and not __fish_seen_subcommand_from plan write check diff apply rollback history explain env" -l except -d 'All but settings whose key begins so' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and not __fish_seen_subcommand_from plan write check diff apply rollback history explain env" -l root -d 'The machine below this folder: its `proc`, `sys`, `etc`; what is written goes there too, if the folder belongs to this user or root' -r -F
complete -c apm -n "__fish_apm_using_subcommand tune; and not __fish_seen_subcommand_from plan write check diff apply rollback history explain env" -l duration -d 'How long the doctor looks for evidence' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and not __fish_seen_subcommand_from plan write check diff apply rollback history explain env" -l preset -d 'Judge a list of settings from elsewhere instead: `spec`, that of apm\'s specification' -r -f -a "spec\t'The list of apm\'s specification'"
complete -c apm -n "__fish_apm_using_subcommand tune; and not __fish_seen_subcommand_from plan write check diff apply rollback history explain env" -l compare -d 'Compare with a profile of tuned: `tuned:throughput-performance`, or `tuned:PATH`' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and not __fish_seen_subcommand_from plan write check diff apply rollback history explain env" -l format -d 'What goes to standard output' -r -f -a "text\t'For people'
json\t'The whole plan, schema apm.tune/1'
sysctl\t'Lines for sysctl.d'
ansible\t'Tasks of an Ansible playbook'
shell\t'Commands that set the values live'"
complete -c apm -n "__fish_apm_using_subcommand tune; and not __fish_seen_subcommand_from plan write check diff apply rollback history explain env" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand tune; and not __fish_seen_subcommand_from plan write check diff apply rollback history explain env" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand tune; and not __fish_seen_subcommand_from plan write check diff apply rollback history explain env" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and not __fish_seen_subcommand_from plan write check diff apply rollback history explain env" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand tune; and not __fish_seen_subcommand_from plan write check diff apply rollback history explain env" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand tune; and not __fish_seen_subcommand_from plan write check diff apply rollback history explain env" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand tune; and not __fish_seen_subcommand_from plan write check diff apply rollback history explain env" -f -a "plan" -d 'Show each setting: now, proposed, why, risk, how to revert'
complete -c apm -n "__fish_apm_using_subcommand tune; and not __fish_seen_subcommand_from plan write check diff apply rollback history explain env" -f -a "write" -d 'Write the drop-in files that keep the settings, each line with its reason; sets nothing live'
complete -c apm -n "__fish_apm_using_subcommand tune; and not __fish_seen_subcommand_from plan write check diff apply rollback history explain env" -f -a "check" -d 'Say what is not as planned, live or in the files; exit 1 if anything is'
complete -c apm -n "__fish_apm_using_subcommand tune; and not __fish_seen_subcommand_from plan write check diff apply rollback history explain env" -f -a "diff" -d 'Show what `apply` would change in files, as a unified diff, and live'
complete -c apm -n "__fish_apm_using_subcommand tune; and not __fish_seen_subcommand_from plan write check diff apply rollback history explain env" -f -a "apply" -d 'Show the changes, ask, back up, write files, set live values, read each back; restore all at the first failure'
complete -c apm -n "__fish_apm_using_subcommand tune; and not __fish_seen_subcommand_from plan write check diff apply rollback history explain env" -f -a "rollback" -d 'Show what was before an apply, ask, restore live values and files as they were'
complete -c apm -n "__fish_apm_using_subcommand tune; and not __fish_seen_subcommand_from plan write check diff apply rollback history explain env" -f -a "history" -d 'List applies, and what became of them'
complete -c apm -n "__fish_apm_using_subcommand tune; and not __fish_seen_subcommand_from plan write check diff apply rollback history explain env" -f -a "explain" -d 'Say what a setting is, its formula, range, risk, source, and the proposal for this machine'
complete -c apm -n "__fish_apm_using_subcommand tune; and not __fish_seen_subcommand_from plan write check diff apply rollback history explain env" -f -a "env" -d 'Print variables for runtimes (JVM, Go, Node, Python, make, cargo) that fit an agent\'s share, for `eval`'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from plan" -l workload -d 'What the machine is for' -r -f -a "agents\t'Coding agents with their builds and tests, many at once'
ci\t'Builds and tests'
server\t'A server with many connections'
desktop\t'Somebody sits in front of it'"
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from plan" -l agents -d 'Agents, jobs or workers at once [default: one a CPU]' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from plan" -l bandwidth -d 'Speed of the way that matters, bits a second: 1G, 500M. With --rtt it decides about buffers' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from plan" -l rtt -d 'Round trip of that way: 40ms' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from plan" -l only -d 'Only settings whose key begins so: vm, net.ipv4, vm.swappiness' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from plan" -l except -d 'All but settings whose key begins so' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from plan" -l root -d 'The machine below this folder: its `proc`, `sys`, `etc`; what is written goes there too, if the folder belongs to this user or root' -r -F
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from plan" -l duration -d 'How long the doctor looks for evidence' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from plan" -l preset -d 'Judge a list of settings from elsewhere instead: `spec`, that of apm\'s specification' -r -f -a "spec\t'The list of apm\'s specification'"
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from plan" -l compare -d 'Compare with a profile of tuned: `tuned:throughput-performance`, or `tuned:PATH`' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from plan" -l format -d 'What goes to standard output' -r -f -a "text\t'For people'
json\t'The whole plan, schema apm.tune/1'
sysctl\t'Lines for sysctl.d'
ansible\t'Tasks of an Ansible playbook'
shell\t'Commands that set the values live'"
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from plan" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from plan" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from plan" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from plan" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from plan" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from plan" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from write" -l workload -d 'What the machine is for' -r -f -a "agents\t'Coding agents with their builds and tests, many at once'
ci\t'Builds and tests'
server\t'A server with many connections'
desktop\t'Somebody sits in front of it'"
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from write" -l agents -d 'Agents, jobs or workers at once [default: one a CPU]' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from write" -l bandwidth -d 'Speed of the way that matters, bits a second: 1G, 500M. With --rtt it decides about buffers' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from write" -l rtt -d 'Round trip of that way: 40ms' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from write" -l only -d 'Only settings whose key begins so: vm, net.ipv4, vm.swappiness' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from write" -l except -d 'All but settings whose key begins so' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from write" -l root -d 'The machine below this folder: its `proc`, `sys`, `etc`; what is written goes there too, if the folder belongs to this user or root' -r -F
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from write" -l duration -d 'How long the doctor looks for evidence' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from write" -l dir -d 'The folder in place of /etc' -r -F
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from write" -l format -d 'Write no files: the settings in this form to standard output' -r -f -a "text\t'For people'
json\t'The whole plan, schema apm.tune/1'
sysctl\t'Lines for sysctl.d'
ansible\t'Tasks of an Ansible playbook'
shell\t'Commands that set the values live'"
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from write" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from write" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from write" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from write" -l dry-run -d 'Show what would be written'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from write" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from write" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from write" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from check" -l workload -d 'What the machine is for' -r -f -a "agents\t'Coding agents with their builds and tests, many at once'
ci\t'Builds and tests'
server\t'A server with many connections'
desktop\t'Somebody sits in front of it'"
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from check" -l agents -d 'Agents, jobs or workers at once [default: one a CPU]' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from check" -l bandwidth -d 'Speed of the way that matters, bits a second: 1G, 500M. With --rtt it decides about buffers' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from check" -l rtt -d 'Round trip of that way: 40ms' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from check" -l only -d 'Only settings whose key begins so: vm, net.ipv4, vm.swappiness' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from check" -l except -d 'All but settings whose key begins so' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from check" -l root -d 'The machine below this folder: its `proc`, `sys`, `etc`; what is written goes there too, if the folder belongs to this user or root' -r -F
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from check" -l duration -d 'How long the doctor looks for evidence' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from check" -l dir -d 'The folder in place of /etc' -r -F
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from check" -l format -d 'What goes to standard output' -r -f -a "text\t'For people'
json\t'One document'"
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from check" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from check" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from check" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from check" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from check" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from diff" -l workload -d 'What the machine is for' -r -f -a "agents\t'Coding agents with their builds and tests, many at once'
ci\t'Builds and tests'
server\t'A server with many connections'
desktop\t'Somebody sits in front of it'"
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from diff" -l agents -d 'Agents, jobs or workers at once [default: one a CPU]' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from diff" -l bandwidth -d 'Speed of the way that matters, bits a second: 1G, 500M. With --rtt it decides about buffers' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from diff" -l rtt -d 'Round trip of that way: 40ms' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from diff" -l only -d 'Only settings whose key begins so: vm, net.ipv4, vm.swappiness' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from diff" -l except -d 'All but settings whose key begins so' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from diff" -l root -d 'The machine below this folder: its `proc`, `sys`, `etc`; what is written goes there too, if the folder belongs to this user or root' -r -F
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from diff" -l duration -d 'How long the doctor looks for evidence' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from diff" -l dir -d 'The folder in place of /etc' -r -F
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from diff" -l format -d 'What goes to standard output' -r -f -a "text\t'For people'
json\t'One document'"
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from diff" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from diff" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from diff" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from diff" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from diff" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from diff" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from apply" -l workload -d 'What the machine is for' -r -f -a "agents\t'Coding agents with their builds and tests, many at once'
ci\t'Builds and tests'
server\t'A server with many connections'
desktop\t'Somebody sits in front of it'"
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from apply" -l agents -d 'Agents, jobs or workers at once [default: one a CPU]' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from apply" -l bandwidth -d 'Speed of the way that matters, bits a second: 1G, 500M. With --rtt it decides about buffers' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from apply" -l rtt -d 'Round trip of that way: 40ms' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from apply" -l only -d 'Only settings whose key begins so: vm, net.ipv4, vm.swappiness' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from apply" -l except -d 'All but settings whose key begins so' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from apply" -l root -d 'The machine below this folder: its `proc`, `sys`, `etc`; what is written goes there too, if the folder belongs to this user or root' -r -F
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from apply" -l duration -d 'How long the doctor looks for evidence' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from apply" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from apply" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from apply" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from apply" -s y -l yes -d 'Do not ask'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from apply" -l dry-run -d 'Show the changes and stop'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from apply" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from apply" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from apply" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from rollback" -l root -d 'The machine below this folder, which belongs to this user or root' -r -F
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from rollback" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from rollback" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from rollback" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from rollback" -l force -d 'Restore also what somebody has changed since'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from rollback" -s y -l yes -d 'Do not ask'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from rollback" -l dry-run -d 'Show what would be restored and stop'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from rollback" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from rollback" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from rollback" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from history" -l root -d 'The machine below this folder' -r -F
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from history" -l format -d 'What goes to standard output' -r -f -a "text\t'For people'
json\t'One document'"
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from history" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from history" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from history" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from history" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from history" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from history" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from explain" -l workload -d 'What the machine is for' -r -f -a "agents\t'Coding agents with their builds and tests, many at once'
ci\t'Builds and tests'
server\t'A server with many connections'
desktop\t'Somebody sits in front of it'"
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from explain" -l agents -d 'Agents, jobs or workers at once [default: one a CPU]' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from explain" -l bandwidth -d 'Speed of the way that matters, bits a second: 1G, 500M. With --rtt it decides about buffers' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from explain" -l rtt -d 'Round trip of that way: 40ms' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from explain" -l only -d 'Only settings whose key begins so: vm, net.ipv4, vm.swappiness' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from explain" -l except -d 'All but settings whose key begins so' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from explain" -l root -d 'The machine below this folder: its `proc`, `sys`, `etc`; what is written goes there too, if the folder belongs to this user or root' -r -F
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from explain" -l duration -d 'How long the doctor looks for evidence' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from explain" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from explain" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from explain" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from explain" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from explain" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from explain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from env" -l agents -d 'Agents at once, who share the machine' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from env" -l agent-memory -d 'Memory of one agent [default: 85 % of what can be had, shared]' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from env" -l agent-cpu -d 'CPU of one agent in percent of one CPU [default: shared]' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from env" -l format -d 'What goes to standard output' -r -f -a "shell\t'`export NAME=VALUE`'
dotenv\t'`NAME=VALUE`, for --env-file and systemd'
json\t'An object'"
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from env" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from env" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from env" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from env" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from env" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand tune; and __fish_seen_subcommand_from env" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand profile; and not __fish_seen_subcommand_from show diff cpu mem io net all self" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand profile; and not __fish_seen_subcommand_from show diff cpu mem io net all self" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand profile; and not __fish_seen_subcommand_from show diff cpu mem io net all self" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and not __fish_seen_subcommand_from show diff cpu mem io net all self" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand profile; and not __fish_seen_subcommand_from show diff cpu mem io net all self" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand profile; and not __fish_seen_subcommand_from show diff cpu mem io net all self" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand profile; and not __fish_seen_subcommand_from show diff cpu mem io net all self" -f -a "show" -d 'Show a recorded profile, apm\'s own or that of other tools, in another form'
complete -c apm -n "__fish_apm_using_subcommand profile; and not __fish_seen_subcommand_from show diff cpu mem io net all self" -f -a "diff" -d 'Compare two profiles: what grew, what shrank, and what is chance'
complete -c apm -n "__fish_apm_using_subcommand profile; and not __fish_seen_subcommand_from show diff cpu mem io net all self" -f -a "cpu" -d 'Sample CPU time, by stack'
complete -c apm -n "__fish_apm_using_subcommand profile; and not __fish_seen_subcommand_from show diff cpu mem io net all self" -f -a "mem" -d 'Sample allocations of memory, by stack: what lives at the peak, what is left at the end, what was allocated'
complete -c apm -n "__fish_apm_using_subcommand profile; and not __fish_seen_subcommand_from show diff cpu mem io net all self" -f -a "io" -d 'Count bytes, calls and waiting of files and sockets, by stack and by file'
complete -c apm -n "__fish_apm_using_subcommand profile; and not __fish_seen_subcommand_from show diff cpu mem io net all self" -f -a "net" -d 'Count bytes, retransmits and round trips of connections, by process and peer, and bytes by stack'
complete -c apm -n "__fish_apm_using_subcommand profile; and not __fish_seen_subcommand_from show diff cpu mem io net all self" -f -a "all" -d 'CPU time, memory, files and connections in one run and one result'
complete -c apm -n "__fish_apm_using_subcommand profile; and not __fish_seen_subcommand_from show diff cpu mem io net all self" -f -a "self" -d 'Sample apm\'s own CPU time while it does what the words say'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from show" -l format -d 'What to make of it' -r -f -a "text\t'For people: functions and paths'
svg\t'A flame graph'
icicle\t'A flame graph with the outermost functions on top'
html\t'A page: curves, flame graphs, tables'
pprof\t'For `go tool pprof` and others, packed'
folded\t'A line for each stack'
speedscope\t'For speedscope.app'
json\t'One document, everything that is known'"
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from show" -l kind -d 'Of which values: cpu, samples, alloc_space and so on [default: the first]' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from show" -l top -d 'Functions in the table' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from show" -l by -d 'What each stack begins with; pprof and JSON name process, thread and task of each anyway' -r -f -a "code\t'Nothing: all threads are one'
process\t'Processes'
thread\t'Processes, and threads in them'
task\t'Tasks of an apm run'"
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from show" -s p -l pid -d 'Only of this process; `--by process` shows which there are' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from show" -s o -l output -d 'Write here [default: standard output]' -r -F
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from show" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from show" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from show" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from show" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from show" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from diff" -l format -d 'What to make of it' -r -f -a "text\t'For people: functions by how their share changed'
svg\t'A flame graph of AFTER: red grew, blue shrank, grey is chance'
json\t'One document'"
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from diff" -l kind -d 'Of which values [default: the first that both have]' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from diff" -l top -d 'Functions in the table' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from diff" -s o -l output -d 'Write here [default: standard output]' -r -F
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from diff" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from diff" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from diff" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from diff" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from diff" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from diff" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from cpu" -s F -l frequency -d 'Samples a second of CPU time [default: 999 for a command, 99 with --pid]' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from cpu" -l stack -d 'How much of the stack each sample copies, up to 63KiB: more where outer functions are missing' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from cpu" -l duration -d 'End the recording after this time; the command goes on' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from cpu" -s p -l pid -d 'Look at this process and what it has started, until it ends or Ctrl-C' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from cpu" -l run -d 'Look at an apm run that goes on, the newest or this one, until it ends; stacks stand apart by task' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from cpu" -s o -l output -d 'The folder for the results; files of an earlier one in it are replaced [default: apm-profile/TIME]' -r -F
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from cpu" -l top -d 'Functions in the table on the terminal' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from cpu" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from cpu" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from cpu" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from cpu" -l fp -d 'Find callers by frame pointers, not by copies of the stack: cheaper, right only where all code keeps them'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from cpu" -l no-kernel -d 'Not the time in the kernel'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from cpu" -l off-cpu -d 'Also the time without a CPU: what threads wait for, by stack'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from cpu" -l wall -d 'The time of threads as the clock on the wall goes: with a CPU and without, in one graph first'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from cpu" -l no-children -d 'Not the processes that it starts'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from cpu" -l jit -d 'Have Node, Java (17 or later) and Python (3.12 or later) name the code they make, by switches in the environment: they write /tmp/perf-PID.map, which stays there'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from cpu" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from cpu" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from cpu" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from mem" -l every -d 'Bytes between two samples, on average: less is more exact and slower' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from mem" -l duration -d 'End the recording after this time; the command goes on' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from mem" -s p -l pid -d 'Look at this process and what it has started, until it ends or Ctrl-C' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from mem" -l run -d 'Look at an apm run that goes on, the newest or this one, until it ends; stacks stand apart by task' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from mem" -s o -l output -d 'The folder for the results; files of an earlier one in it are replaced [default: apm-profile/TIME]' -r -F
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from mem" -l top -d 'Functions in the table on the terminal' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from mem" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from mem" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from mem" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from mem" -l faults -d 'Sample first touches of pages instead, as is done by itself where a program cannot be looked into'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from mem" -l no-children -d 'Not the processes that it starts'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from mem" -l jit -d 'Have Node, Java (17 or later) and Python (3.12 or later) name the code they make, by switches in the environment: they write /tmp/perf-PID.map, which stays there'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from mem" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from mem" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from mem" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from io" -l duration -d 'End the recording after this time; the command goes on' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from io" -s p -l pid -d 'Look at this process and what it has started, until it ends or Ctrl-C' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from io" -l run -d 'Look at an apm run that goes on, the newest or this one, until it ends; stacks stand apart by task' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from io" -s o -l output -d 'The folder for the results; files of an earlier one in it are replaced [default: apm-profile/TIME]' -r -F
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from io" -l top -d 'Functions in the table on the terminal' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from io" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from io" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from io" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from io" -l trace -d 'Every call, by tracepoints of the kernel: for root. Without it the preloaded library counts, where it can be loaded: cheaper and with the name of every file, but blind for stdio (fwrite and its kin call within the C library)'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from io" -l no-children -d 'Not the processes that it starts'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from io" -l jit -d 'Have Node, Java (17 or later) and Python (3.12 or later) name the code they make, by switches in the environment: they write /tmp/perf-PID.map, which stays there'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from io" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from io" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from io" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from net" -l duration -d 'End the recording after this time; the command goes on' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from net" -s p -l pid -d 'Look at this process and what it has started, until it ends or Ctrl-C' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from net" -l run -d 'Look at an apm run that goes on, the newest or this one, until it ends; stacks stand apart by task' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from net" -s o -l output -d 'The folder for the results; files of an earlier one in it are replaced [default: apm-profile/TIME]' -r -F
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from net" -l top -d 'Functions in the table on the terminal' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from net" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from net" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from net" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from net" -l trace -d 'Every call, by tracepoints of the kernel: for root. Without it the preloaded library counts, where it can be loaded: cheaper and with the name of every file, but blind for stdio (fwrite and its kin call within the C library)'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from net" -l no-children -d 'Not the processes that it starts'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from net" -l jit -d 'Have Node, Java (17 or later) and Python (3.12 or later) name the code they make, by switches in the environment: they write /tmp/perf-PID.map, which stays there'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from net" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from net" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from net" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from all" -s F -l frequency -d 'Samples a second of CPU time [default: 999 for a command, 99 with --pid]' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from all" -l stack -d 'How much of the stack each sample copies, up to 63KiB: more where outer functions are missing' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from all" -l duration -d 'End the recording after this time; the command goes on' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from all" -s p -l pid -d 'Look at this process and what it has started, until it ends or Ctrl-C' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from all" -l run -d 'Look at an apm run that goes on, the newest or this one, until it ends; stacks stand apart by task' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from all" -s o -l output -d 'The folder for the results; files of an earlier one in it are replaced [default: apm-profile/TIME]' -r -F
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from all" -l top -d 'Functions in the table on the terminal' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from all" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from all" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from all" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from all" -l trace -d 'Every call of files and sockets, by tracepoints of the kernel, as of `apm profile io --trace`: for root'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from all" -l fp -d 'Find callers by frame pointers, not by copies of the stack: cheaper, right only where all code keeps them'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from all" -l no-kernel -d 'Not the time in the kernel'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from all" -l off-cpu -d 'Also the time without a CPU: what threads wait for, by stack'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from all" -l wall -d 'The time of threads as the clock on the wall goes: with a CPU and without, in one graph first'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from all" -l no-children -d 'Not the processes that it starts'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from all" -l jit -d 'Have Node, Java (17 or later) and Python (3.12 or later) name the code they make, by switches in the environment: they write /tmp/perf-PID.map, which stays there'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from all" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from all" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from all" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from self" -s F -l frequency -d 'Samples a second of CPU time, up to 250: the timer runs by the kernel\'s tick' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from self" -s o -l output -d 'The folder for the results; files of an earlier one in it are replaced [default: apm-profile/TIME]' -r -F
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from self" -l top -d 'Functions in the table on the terminal' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from self" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from self" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from self" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from self" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from self" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand profile; and __fish_seen_subcommand_from self" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand config; and not __fish_seen_subcommand_from show check init keys" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand config; and not __fish_seen_subcommand_from show check init keys" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand config; and not __fish_seen_subcommand_from show check init keys" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand config; and not __fish_seen_subcommand_from show check init keys" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand config; and not __fish_seen_subcommand_from show check init keys" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand config; and not __fish_seen_subcommand_from show check init keys" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand config; and not __fish_seen_subcommand_from show check init keys" -f -a "show" -d 'Show the values in effect'
complete -c apm -n "__fish_apm_using_subcommand config; and not __fish_seen_subcommand_from show check init keys" -f -a "check" -d 'Check the configuration, or one file'
complete -c apm -n "__fish_apm_using_subcommand config; and not __fish_seen_subcommand_from show check init keys" -f -a "init" -d 'Create a configuration file with every key, its default and its meaning in comments'
complete -c apm -n "__fish_apm_using_subcommand config; and not __fish_seen_subcommand_from show check init keys" -f -a "keys" -d 'List every key with its unit, meaning and effect'
complete -c apm -n "__fish_apm_using_subcommand config; and __fish_seen_subcommand_from show" -l format -d 'What goes to standard output' -r -f -a "text\t'For people'
json\t'One document'"
complete -c apm -n "__fish_apm_using_subcommand config; and __fish_seen_subcommand_from show" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand config; and __fish_seen_subcommand_from show" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand config; and __fish_seen_subcommand_from show" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand config; and __fish_seen_subcommand_from show" -l origin -d 'Say where each value comes from, and show defaults too'
complete -c apm -n "__fish_apm_using_subcommand config; and __fish_seen_subcommand_from show" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand config; and __fish_seen_subcommand_from show" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand config; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand config; and __fish_seen_subcommand_from check" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand config; and __fish_seen_subcommand_from check" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand config; and __fish_seen_subcommand_from check" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand config; and __fish_seen_subcommand_from check" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand config; and __fish_seen_subcommand_from check" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand config; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand config; and __fish_seen_subcommand_from init" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand config; and __fish_seen_subcommand_from init" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand config; and __fish_seen_subcommand_from init" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand config; and __fish_seen_subcommand_from init" -l user -d 'The user\'s file, not the project\'s `apm.yaml`'
complete -c apm -n "__fish_apm_using_subcommand config; and __fish_seen_subcommand_from init" -l force -d 'Replace a file that exists'
complete -c apm -n "__fish_apm_using_subcommand config; and __fish_seen_subcommand_from init" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand config; and __fish_seen_subcommand_from init" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand config; and __fish_seen_subcommand_from init" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand config; and __fish_seen_subcommand_from keys" -l format -d 'What goes to standard output' -r -f -a "text\t'For people'
json\t'One document'"
complete -c apm -n "__fish_apm_using_subcommand config; and __fish_seen_subcommand_from keys" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand config; and __fish_seen_subcommand_from keys" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand config; and __fish_seen_subcommand_from keys" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand config; and __fish_seen_subcommand_from keys" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand config; and __fish_seen_subcommand_from keys" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand config; and __fish_seen_subcommand_from keys" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c apm -n "__fish_apm_using_subcommand help" -l color -d 'Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it' -r -f -a "auto\t'As the situation suggests'
always\t'Yes'
never\t'No'"
complete -c apm -n "__fish_apm_using_subcommand help" -l config -d 'Read this configuration file too, above the project\'s' -r -F
complete -c apm -n "__fish_apm_using_subcommand help" -l set -d 'Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`' -r
complete -c apm -n "__fish_apm_using_subcommand help" -s q -l quiet -d 'Print results and errors only'
complete -c apm -n "__fish_apm_using_subcommand help" -s v -l verbose -d 'Say more about what is decided and why'
complete -c apm -n "__fish_apm_using_subcommand help" -s h -l help -d 'Print help (see more with \'--help\')'
