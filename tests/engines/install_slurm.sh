#!/usr/bin/env bash
# Install Slurm for make test-slurm, from the packages of Debian or Ubuntu. No daemon is started.
set -euo pipefail
command -v munged slurmctld slurmd sbatch srun scontrol >/dev/null && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo 'make test-slurm needs slurmctld, slurmd, slurm-client and munge.' \
        'It installs them as root on Debian or Ubuntu; elsewhere install them first.' >&2
    exit 1
fi
apt-get update -qq
apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge >/dev/null
