#!/bin/bash
# One study on nodes that other jobs, and other users' Rays, share: own ports, own directory, own token.
# sbatch docs/clusters/slurm_shared.sh study=big run_dir=$SCRATCH/runs/big 'seeds=[0,1,2,3]'
#SBATCH --job-name=bitfront
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=08:00:00
#SBATCH --requeue
set -euo pipefail

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
port=$((20000 + SLURM_JOB_ID % 20000))
address="${nodes[0]}:$port"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
# Sockets need a short path on the node's own disk.
folder=$(mktemp -d -t "ray-$SLURM_JOB_ID-XXXX")
# The ports of workers are left to the system, so that two Rays on a node never want the same.
common=(--num-cpus="${SLURM_CPUS_PER_TASK:-1}" --min-worker-port=0 --max-worker-port=0
  --disable-usage-stats --block)

# Returns once so many nodes have joined, or ends the job after START_WITHIN_S seconds.
joined() {
  local found=0 begun
  for ((begun = SECONDS; SECONDS - begun < ${START_WITHIN_S:-300}; )); do
    found=$(ray status --address="$address" 2>/dev/null | grep -c " node_") || true
    if ((found >= $1)); then return; fi
    sleep 1
  done
  echo "only $found of $1 nodes of Ray started" >&2
  return 1
}
start() { srun --nodes=1 --ntasks=1 --nodelist="$1" --overlap ray start "${@:2}" "${common[@]}" & }
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
start "${nodes[0]}" --head --port="$port" --include-dashboard=false --temp-dir="$folder"
joined 1
for node in "${nodes[@]:1}"; do start "$node" --address="$address"; done
joined "${#nodes[@]}"

bitfront-search "runner.address=$address" runner.retries=3 "$@"
