#!/bin/bash
# law.sh - the law over two nodes: the bytes of one rank, from 2 x 2 ranks of mpirun and of a Slurm job
#
# SPDX-License-Identifier: Apache-2.0
#
#   law.sh BINARY nodes|slurm        from the root of the project; exit code 77 where nodes or Slurm cannot be had
#   law.sh BINARY devices MODULE     jobs with GPUs, which are emulated: MODULE is tests/hostgpu's for --cuda-module
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
binary=$(realpath "$1")
case=$2
# shellcheck source=scripts/mpi_env.sh
. "$root/scripts/mpi_env.sh"
# The nodes have an interface of their own.
unset OMPI_MCA_btl_tcp_if_include OMPI_MCA_oob_tcp_if_include

work=$(mktemp -d)
lab=$work/lab
mkdir "$lab"
script=nodes.sh
clean() {
    "$here/$script" "$lab" down || true
    rm -rf "$work"
}
trap clean EXIT

printf 'In the beginning\nstatic int\nDie Datei\nimport \nThe package\n' >"$work/prompts"
greedy=(--temperature 0 --max-tokens 32)
# Each prompt greedy and drawn, in one run.
while read -r prompt; do
    printf '{"id": "greedy %s", "prompt": "%s", "temperature": 0}\n' "$prompt" "$prompt"
    printf '{"id": "drawn %s", "prompt": "%s", "temperature": 0.8, "top_p": 0.95, "seed": 7}\n' "$prompt" "$prompt"
done <"$work/prompts" >"$work/requests"
both=(--input jsonl --output text --max-tokens 32)

# generate IN OUT COMMAND...
generate() {
    local in=$1 out=$2
    shift 2
    "$@" <"$in" >"$out" 2>"$out.err" || {
        cat "$out.err"
        echo "FAILED: $*"
        exit 1
    }
}

# same NAME: the answers in $work/NAME are those in $work/wanted and came from two nodes.
same() {
    cmp "$work/wanted" "$1" || {
        echo "FAILED: $2 gives other bytes than one rank"
        exit 1
    }
    grep -q 'on 2 nodes' "$1.err" || {
        cat "$1.err"
        echo "FAILED: $2 did not run on two nodes"
        exit 1
    }
    echo "  equal: $2 ($(stat -c %s "$1") bytes)"
}

over_nodes() {
    local layout
    case $("$binary" --version) in
    *MPICH*)
        echo "skipped: nodes (mpirun of Open MPI starts no program of MPICH)"
        exit 77
        ;;
    esac
    "$here/nodes.sh" "$lab" up 2
    generate "$work/requests" "$work/wanted" "$binary" generate --model "$root/models/demo" "${both[@]}"
    for layout in '' '-tp 2' '-tp 4' '--comm mpi' '--comm shared' '--expert-parallel-size 2' \
        '--enable-eplb --eplb-force --num-redundant-experts 6' '--share-experts --enable-eplb --eplb-force --num-redundant-experts 6' \
        '--enable-eplb --eplb-force --comm mpi --dispatch node-once'; do
        # shellcheck disable=SC2086 # a layout is some words
        generate "$work/requests" "$work/found" timeout -k 5 120 "$here/nodes.sh" "$lab" mpirun 2 "$binary" generate \
            --model "$root/models/demo" "${both[@]}" $layout
        same "$work/found" "2 nodes x 2 ranks, $layout"
    done
}

slurm() {
    "$here/slurm.sh" "$lab" run "$@"
}

# submit OPTION...: one job, waited for; the result is its number and state.
submit() {
    local job state i
    job=$(slurm sbatch --parsable "$@")
    for ((i = 0; i < 1200; i++)); do
        state=$(slurm squeue -h -j "$job" -o %T 2>/dev/null || true)
        [ -n "$state" ] || break
        sleep 0.1
    done
    state=$(slurm scontrol show job "$job" | sed -n 's/.*JobState=\([A-Z_]*\).*/\1/p')
    echo "$job $state"
}

job_is_complete() {
    [ "$2" = COMPLETED ] || {
        cat "$work/folder/"*.err
        echo "FAILED: job $1 ended as $2"
        exit 1
    }
}

over_slurm() {
    local job state layout code=0
    script=slurm.sh
    "$here/slurm.sh" "$lab" up 2
    generate "$work/prompts" "$work/wanted" "$binary" generate --model "$root/models/demo" "${greedy[@]}"
    mkdir -p "$work/folder/build"
    cd "$work/folder"

    ln -s "$binary" build/switchyard
    for layout in '' '-tp 2'; do
        # shellcheck disable=SC2086
        read -r job state < <(submit --nodes=2 --ntasks-per-node=2 "$root/launch/slurm/switchyard.sbatch" \
            --model "$root/models/demo" --input-file "$work/prompts" "${greedy[@]}" $layout)
        job_is_complete "$job" "$state"
        mv "switchyard-$job.out" found
        mv "switchyard-$job.err" found.err
        same found "Slurm job of 2 x 2, build/switchyard $layout"
    done

    # Without one in the folder, the program on PATH.
    mkdir bin
    mv build/switchyard bin/
    read -r job state < <(PATH=$PWD/bin:$PATH submit --nodes=2 --ntasks-per-node=2 \
        "$root/launch/slurm/switchyard.sbatch" --model "$root/models/demo" --input-file "$work/prompts" "${greedy[@]}")
    job_is_complete "$job" "$state"
    mv "switchyard-$job.out" found
    mv "switchyard-$job.err" found.err
    same found "Slurm job of 2 x 2, switchyard on PATH"

    # A plain command in a batch script is one rank, however many tasks the job could have.
    read -r job state < <(submit --nodes=2 --ntasks-per-node=2 --output=plain --error=plain.err --wrap \
        "exec '$binary' generate --model '$root/models/demo' --input-file '$work/prompts' ${greedy[*]}")
    job_is_complete "$job" "$state"
    cmp "$work/wanted" plain || {
        echo "FAILED: a plain command in a batch script gives other bytes"
        exit 1
    }
    echo "  equal: a plain command in a batch script"

    # Four tasks that do not know of each other are refused, with the cause.
    timeout -k 5 120 "$here/slurm.sh" "$lab" run srun --mpi=none -N 2 --ntasks-per-node=2 "$binary" generate \
        --model "$root/models/demo" --input-file "$work/prompts" "${greedy[@]}" >alone 2>alone.err </dev/null || code=$?
    if [ "$code" -eq 0 ] || [ -s alone ]; then
        cat alone.err
        echo "FAILED: four tasks without an MPI plug-in were not refused (exit code $code)"
        exit 1
    fi
    echo "  refused: four tasks without an MPI plug-in: $(grep -m 1 -i 'mpi' alone.err || true)"
}

# job_takes DEVICES WHAT OPTION...: a job of 2 x 2 ranks gives the bytes of one rank, and its first node those devices.
job_takes() {
    local devices=$1 what=$2 job state
    shift 2
    read -r job state < <(submit --output=found --error=found.err --nodes=2 --ntasks-per-node=2 "$@")
    job_is_complete "$job" "$state"
    same found "$what"
    grep -q "local rank 0 takes $devices\$" found.err || {
        grep takes found.err
        echo "FAILED: $what: not $devices"
        exit 1
    }
}

# job_is_refused WORDS OPTION...: a job of 2 x 2 ranks ends with the code of what is not to be had, and those words.
job_is_refused() {
    local words=$1 job state
    shift
    read -r job state < <(submit --output=found --error=found.err --nodes=2 --ntasks-per-node=2 "$@")
    if [ "$state" != FAILED ] || [ -s found ] || ! grep -q -- "$words" found.err ||
        ! slurm scontrol show job "$job" | grep -q 'ExitCode=69:0'; then
        cat found.err
        echo "FAILED: not refused with '$words' ($state): $*"
        exit 1
    fi
    echo "  refused: $words"
}

# Each rank takes a GPU that Slurm gave it, whatever way it was asked to bind.
with_devices() {
    local module i run=(generate --model "$root/tests/golden/llama4_b" --input jsonl --input-file "$work/rows" --no-stream --ordered --exact)
    local few='each needs one of its own; start fewer ranks, or show them more (CUDA_VISIBLE_DEVICES; Slurm: --gpus-per-node=2)'
    module=$(realpath "$1")
    script=slurm.sh
    "$here/slurm.sh" "$lab" up 2 8 4
    mkdir -p "$work/folder/build"
    cd "$work/folder"
    ln -s "$binary" build/switchyard
    for i in 1 2 3 4; do
        echo "{\"id\": $i, \"prompt_token_ids\": [$((20 * i)), 3, 5, 7, 9, 11], \"max_tokens\": 3, \"temperature\": 0}"
    done >"$work/rows"
    run+=(--backend cuda --cuda-module "$module" --kv-cache-memory 4M)
    "$binary" "${run[@]}" >"$work/wanted" 2>alone.err || {
        cat alone.err
        exit 1
    }
    set -- "$root/launch/slurm/switchyard.sbatch" "${run[@]}"

    job_takes 'GPU 0 at 0000:01:00.0, 1 takes GPU 0 at 0000:02:00.0' 'one GPU for each task' --gpus-per-task=1 "$@"
    job_takes 'GPU 0 at 0000:04:00.0, 1 takes GPU 0 at 0000:02:00.0' 'GPUs by a map' --gpus-per-node=4 --gpu-bind=map_gpu:3,1 "$@"
    # What another job has is not there.
    slurm sbatch --parsable --nodes=2 --gpus-per-node=1 --output=/dev/null --wrap 'exec sleep 600' >other
    for ((i = 0; i < 1200; i++)); do
        [ "$(slurm squeue -h -j "$(cat other)" -o %T)" != RUNNING ] || break
        sleep 0.1
    done
    job_takes 'GPU 0 at 0000:02:00.0, 1 takes GPU 1 at 0000:03:00.0' 'GPUs for a node, beside another job' --gpus-per-node=2 "$@"
    job_is_refused "$few" --gpus-per-node=2 --gpu-bind=single:2 "$@"
    case $("$binary" --version) in
    *MPICH*) return ;;
    esac
    # mpirun is one task on each other node, whose GPUs all ranks there see: so --gpus-per-task would be refused.
    printf '#!/bin/bash\nexec mpirun.openmpi "$@"\n' >mpirun.sbatch
    set -- "$PWD/mpirun.sbatch" "$binary" "${run[@]}"
    job_takes 'GPU 0 at 0000:02:00.0, 1 takes GPU 1 at 0000:03:00.0' 'mpirun in a job' --gpus-per-node=2 "$@"
}

case $case in
nodes) over_nodes ;;
slurm) over_slurm ;;
devices) with_devices "$3" ;;
*)
    echo "usage: law.sh BINARY nodes|slurm, or BINARY devices MODULE" >&2
    exit 1
    ;;
esac
