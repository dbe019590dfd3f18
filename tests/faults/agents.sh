# shellcheck shell=bash disable=SC2034,SC2154 # read by run.sh
# Faults of limits and repositories.

# expect agent.nofile
# follow agent.nofile ulimit
fault_few_files() {
    doctor_prefix=(bash -c 'ulimit -Sn 128; exec "$@"' -)
}
then_few_files() {
    doctor_prefix=(bash -c "ulimit -Sn 128; $advice"'; exec "$@"' -)
}

# expect agent.capacity
# areas agents
# unfollowed the command ends with the words of the run that the user wants
fault_too_many_agents() {
    doctor_words=(--agents 5000)
}

# expect git.lock
# areas agents
# needs git
# follow git.lock rm
fault_dead_git_lock() {
    git init -q "$scratch/repo" && touch -d '10 minutes ago' "$scratch/repo/.git/index.lock"
    cd "$scratch/repo" || return 1
}

# expect git.upkeep
# level info
# areas agents
# needs git
# follow git.upkeep prune
fault_worktree_gone() {
    git init -q "$scratch/repo" && cd "$scratch/repo" || return 1
    git -c user.name=t -c user.email=t@t commit -q --allow-empty -m one
    git worktree add -q "$scratch/other" && rm -rf "$scratch/other"
}

# expect git.lock
# areas agents
# needs git
calm_fresh_git_lock() {
    git init -q "$scratch/repo" && touch "$scratch/repo/.git/index.lock"
    cd "$scratch/repo" || return 1
}
