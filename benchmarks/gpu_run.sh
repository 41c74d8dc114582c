#!/usr/bin/env bash
# Everything that wants a CUDA GPU, the most valuable first; fifteen minutes at most.
#
#   benchmarks/gpu_run.sh OUT [TEXT]
#
# OUT gets a log for each step as it goes, and JSON where a step gives numbers, so the run can be
# cut off at any second. TEXT is what is trained on; without it, tiny Shakespeare is fetched.
# PYTHON names the interpreter, DEVICE=cpu only shows that the script works, and STEPS names the
# steps to take (default: all).
set -u
cd "$(dirname "$0")/.."
out=$(mkdir -p "$1" && cd "$1" && pwd)
text=${2:+--data $(realpath "$2")}
python=${PYTHON:-.venv/bin/python}
device=${DEVICE:-cuda}
steps=${STEPS:-smoke tests speed training large}
profile=--profile
[ "$device" = cpu ] && profile=
export PYTHONUNBUFFERED=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# log SECONDS NAME COMMAND…: its output and what it took; whatever happens, the next step follows.
log() {
  local limit=$1 name=$2 begun=$SECONDS
  shift 2
  timeout --kill-after=5 "$limit" "$@" >"$out/$name.log" 2>&1
  echo "$name: status $? after $((SECONDS - begun)) s" | tee -a "$out/steps.log"
}

# The same, where what the command prints on stdout is JSON.
json() {
  local limit=$1 name=$2 begun=$SECONDS
  shift 2
  timeout --kill-after=5 "$limit" "$@" >"$out/$name.json" 2>"$out/$name.log"
  echo "$name: status $? after $((SECONDS - begun)) s" | tee -a "$out/steps.log"
}

smoke() {
  {
    [ "$device" = cpu ] || nvidia-smi
    "$python" -c 'import sys, torch; print(sys.version, torch.__version__, torch.version.cuda)'
    "$python" -c 'import benchmarks.gpu, platformdirs, plotext, pytest_asyncio' # all that is needed
  } >"$out/machine.log" 2>&1 || tail -n 1 "$out/machine.log"
  complete="$python -m gpt complete ROMEO: -n 50 --temperature 0 --dtype float32"
  log 60 smoke-cpu $complete --device cpu
  log 60 smoke-gpu $complete --device "$device"
  cmp "$out/smoke-cpu.log" "$out/smoke-gpu.log" && echo "the same text" | tee -a "$out/steps.log"
}

tests() {
  log 60 pytest "$python" -m pytest -m cuda tests/gpt --tb=long -k "not compiled_code"
  log 120 pytest-compiled "$python" -m pytest -m cuda tests/gpt --tb=long -k compiled_code
}

speed() {
  common="--device $device --rounds 3 --work $work/speed"
  for model in gpt2 shakespeare; do # compiling takes one to two minutes for each
    json 180 "speed-$model" "$python" -m benchmarks.gpu $common --models "$model" $profile \
      --programs "ours eager" "ours graph" transformers "ours compiled"
  done
  json 90 speed-static "$python" -m benchmarks.gpu $common --models gpt2 \
    --programs "ours graph" "transformers static"
}

# train SEED: preset 384, timed, and what `evaluate` says of it.
train() {
  GPT_TUI_HOME=$work/home log 170 "train-$1" "$python" -m gpt train --preset "${PRESET:-384}" \
    $text --seed "$1" --device "$device" --sample-every 0 --out "$work/seed-$1" ${TRAIN:-}
  json 60 "evaluate-$1" "$python" -m gpt evaluate "$work/seed-$1" $text --device "$device" --json
  cp "$work/seed-$1.run/report.md" "$out/report-$1.md"
  cp "$work/seed-$1.run/metrics.csv" "$out/metrics-$1.csv"
}

training() {
  train 1 # alone: this one's time counts
  train 2 &
  train 3 &
  wait
  best=$("$python" - "$out" <<'PYTHON'
import json, pathlib, sys

losses = {}
for path in pathlib.Path(sys.argv[1]).glob("evaluate-*.json"):
    if text := path.read_text():
        losses[path.stem[-1]] = json.loads(text)["loss"]["disjoint"]["nats_per_character"]
print(min(losses, key=losses.get))
PYTHON
  )
  cp -r "$work/seed-$best" "$out/best"
}

large() {
  json 150 large "$python" -m benchmarks.gpu --device "$device" --rounds 2 --models gpt2-xl \
    --work "$work/speed" --programs "ours graph" "ours compiled" transformers
}

for step in $steps; do $step; done
