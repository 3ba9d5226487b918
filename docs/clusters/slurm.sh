#!/bin/bash
# One study on all nodes of a Slurm job that has its nodes to itself.
# sbatch docs/clusters/slurm.sh study=big run_dir=$SCRATCH/runs/big 'seeds=[0,1,2,3]'
#SBATCH --job-name=bitfront
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --exclusive
#SBATCH --time=08:00:00
#SBATCH --requeue
set -euo pipefail

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address="$head:6379"
# Only who knows the token may use the cluster; srun hands it to every node.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')

# Starts Ray on every node, runs the study on the first one, stops Ray. A requeued job runs the
# same command again, and the study goes on where it stopped.
srun ray symmetric-run --address "$address" --min-nodes "$SLURM_NNODES" \
  --num-cpus "${SLURM_CPUS_PER_TASK:-1}" --include-dashboard=false --disable-usage-stats -- \
  bitfront-search "runner.address=$address" runner.retries=3 "$@"
