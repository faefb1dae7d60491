#!/usr/bin/env bash
# scaling/bench/gpu/check.sh PART: what to run on the day a GPU is at hand, in three parts of at most ten minutes: a, b, c.
# Run in the repository root of a machine with the project installed. $OUT is a folder for results. Not yet run on a GPU.
set -u
export PYTHONUNBUFFERED=1 PYTHONPATH=${PYTHONPATH:-}:$PWD
OUT=${OUT:-/tmp/out}
mkdir -p "$OUT"
train() { timeout 170 python3 -m scaling.bench training --precision bf16 "$@"; }
probe() { timeout 150 python3 -m scaling.bench.gpu.probe "$@"; }
case ${1:-a} in
a)
  nvidia-smi -L
  probe syncs mixer-l/16 64                                         # bf16, no wait for the device
  probe syncs mixer-l/16 64 defaults.zero_stage=2 defaults.clip=1.0
  train --steps 5 --rounds 5 --model mixer-l/16 --batch 64 --set defaults.micro_batch=64 --json "$OUT/l16.json"
  probe timm mixer-l/16 64 --timm-model mixer_l16_224
  probe syncs mixer-l/16 64 defaults.compile=true
  ;;
b)
  runs=$(mktemp -d)
  launch() {
    python3 -m scaling.launch sweeps/quickstart.yaml --max-parallel 1 --set grid.fraction=[0.1] --set grid.seed=[0] \
      --set defaults.precision=bf16 "$@"
  }
  timeout 280 bash -c "$(declare -f launch); launch --out $runs/whole"
  echo "exit $?"
  launch --out "$runs/cut" & launcher=$!
  for _ in $(seq 90); do sleep 1; ls -d "$runs"/cut/quickstart/*/checkpoints/step_* >/dev/null 2>&1 && break; done
  sleep 1
  kill -9 "$(python3 -c "
import glob, json
states = [json.load(open(path)) for path in glob.glob('$runs/cut/quickstart/*/state.json')]
print(*[state['pid'] for state in states if state['status'] == 'running'])")"
  wait $launcher
  (cd "$runs/whole" && sha256sum quickstart/*/checkpoints/best/*) >/tmp/whole.sums
  (cd "$runs/cut" && sha256sum quickstart/*/checkpoints/best/*) >/tmp/cut.sums
  diff /tmp/whole.sums /tmp/cut.sums && echo BIT-EXACT
  timeout 120 python3 -m pytest -q -p no:cacheprovider tests/train/step/test_execution.py -k "compiled or layout or activation"
  ;;
c)
  probe ckpt mixer-h/14 32
  probe ckpt mixer-b/32 512
  for threads in 1 4 14; do
    train --model mixer-b/16 --batch 256 --steps 3 --rounds 3 --set launch.loader_threads=$threads \
      --set defaults.micro_batch=256 --json "$OUT/b16-$threads-threads.json"
  done
  ;;
esac
