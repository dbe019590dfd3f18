# shellcheck shell=bash
# A machine at rest: nothing may be said. For a quiet machine only.

# unsafe
calm_idle() {
    sleep 1
}
