#!/usr/bin/env bash
# Submit the current branch to AIcrowd: check, commit, tag, push.
#
#     ./submit.sh "first try"              # makes and pushes the tag submission-first-try
#     ./submit.sh --dry-run "first try"    # says what that would do, and does none of it
#
# Works with bash 3.2, which macOS has, and any git of the last ten years. `./submit.sh --help` explains the options.

set -euo pipefail # with pipefail, no reader of a pipe may stop early: sed -n 1p instead of head

unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_PREFIX # as a git alias or hook would have them: of another repository

readonly HOST=gitlab.aicrowd.com
readonly REPOSITORY=sdx-2023-music-demixing-track-starter-kit
readonly LARGE=5000000 # bytes: what is larger goes through git-lfs

usage() {
    cat <<'END'
usage: ./submit.sh [--dry-run] [--no-run] [--user NAME] SUBMISSION-NAME

Runs the preflight checks, commits the tracked files that changed and the selected model's checkpoints, tags the commit
submission-SUBMISSION-NAME (spaces become '-') and pushes the branch and the tag to the remote `aicrowd`. Never forces.

  --dry-run     everything but commit, tag and push: says what it would do, leaves the repository as it was
  --no-run      preflight without the wrapper run on a song, which takes many minutes on a CPU
  --user NAME   your AIcrowd user name, for the remote's address (default: git config aicrowd.user, else aicrowd-cli's)

A remote `aicrowd` that is there is used as it is (ssh, or a folder); without one, `aicrowd login` must have been run.
The environment's PYTHON names the interpreter (default: python, else python3).

Exit status: 0 submitted, 1 refused or failed, 2 wrong usage.
END
}

usage_error() {
    printf 'submit.sh: error: %s\nsee: ./submit.sh --help\n' "$1" >&2
    exit 2
}

refuse() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

say() { printf '%s\n' "$*"; }

# ---------------------------------------------------------------------------------------------- the token, and git with it

# The file in which `aicrowd login` keeps what it was given.
cli_config() {
    if [[ $(uname) == Darwin ]]; then
        printf '%s' "$HOME/Library/Application Support/aicrowd-cli/config.toml"
    else
        printf '%s' "${XDG_CONFIG_HOME:-$HOME/.config}/aicrowd-cli/config.toml"
    fi
}

# cli_value KEY FORMAT: print FORMAT with the key of that file's section [gitlab]; fail where there is none.
# The value goes from awk to standard output: it is in no variable, no argument and no trace.
cli_value() {
    awk -F '"' -v key="$1" -v format="$2" '
        /^\[/ { inside = ($0 ~ /^\[gitlab\]/) }
        inside && $0 ~ "^" key "[ \t]*=" && $2 != "" { printf format, $2; found = 1; exit }
        END { exit !found }
    ' "$(cli_config)" 2>/dev/null
}

# What git runs, as a credential helper, at the moment it needs the token: gitcredentials(7).
answer_git() {
    local line protocol="" host=""
    [[ $1 == get && ! -t 1 ]] || return 0
    while IFS= read -r line && [[ -n $line ]]; do
        case $line in
            protocol=*) protocol=${line#*=} ;;
            host=*) host=${line#*=} ;;
        esac
    done
    [[ $protocol == https && $host == "$HOST" ]] || return 0
    cli_value oauth_token 'username=oauth2\npassword=%s\n' || true
}

# Settings for every git command from here on, and for git-lfs beneath it; none of them is stored.
settings=(
    -c core.quotePath=false # names are shown as they are
    -c "filter.lfs.clean=git-lfs clean -- %f"
    -c "filter.lfs.smudge=git-lfs smudge -- %f"
    -c "filter.lfs.process=git-lfs filter-process"
    -c "filter.lfs.required=true"
)

git() { command git "${settings[@]}" "$@"; }

offer_token() {
    cli_value oauth_token '%s' >/dev/null || return 1
    SUBMIT_SH=$PWD/submit.sh
    export SUBMIT_SH
    # the empty one first: other helpers would be told the token, and might store it
    settings+=(-c "credential.https://$HOST.helper=" -c "credential.https://$HOST.helper=!bash \"\$SUBMIT_SH\" --credential")
}

# -------------------------------------------------------------------------------------------- what can be refused at once

read_arguments() {
    dry_run="" no_run="" user="" name=""
    while (($#)); do
        case $1 in
            -h | --help) usage && exit 0 ;;
            --dry-run) dry_run=yes ;;
            --no-run) no_run=--no-run ;;
            --user)
                (($# > 1)) || usage_error "--user wants a name"
                user=$2
                shift
                ;;
            -*) usage_error "no such option: $1" ;;
            *)
                [[ -z $name ]] || usage_error "one name is expected, found '$name' and '$1'; put quotes around spaces"
                name=$1
                [[ -n $name ]] || usage_error "the name is empty"
                ;;
        esac
        shift
    done
    [[ -n $name ]] || usage_error "a name for the submission is expected"
    [[ -z $user || $user =~ ^[A-Za-z0-9_.-]+$ ]] || usage_error "'$user' is no AIcrowd user name"
    tag=submission-${name// /-}
    command git check-ref-format "refs/tags/$tag" || usage_error "git takes no tag '$tag'; letters, digits, '-' and '_' will do"
}

check_repository() {
    local top
    top=$(git rev-parse --show-toplevel 2>/dev/null) || refuse "$PWD is no git repository; git init, git add and git commit first"
    [[ $top -ef . ]] || refuse "the git repository begins at $top, expected at $PWD, where submit.sh lies"
    branch=$(git symbolic-ref --quiet --short HEAD) || refuse "HEAD is detached: it is on no branch; git switch -c NAME first"
    [[ -n $(git ls-files | sed -n 1p) ]] || refuse "git tracks no file here yet; git add those of your submission first"
    [[ -z $(git ls-files --unmerged) ]] || refuse "a merge is unfinished (git status says where); finish it first"
    index=$(git rev-parse --git-path index)
    config=$(git rev-parse --git-path config)
}

# Find the remote's address, or what it is to be; sets `address`, and `remote_is_new` where there is no remote yet.
check_remote() {
    local url
    remote_is_new=""
    if url=$(git config remote.aicrowd.url); then
        check_no_credential
        [[ -z $user || $url == "$(default_address)" ]] || refuse "--user $user goes with a new remote, and there is one," \
            "'aicrowd'; leave --user out, or take the remote out: git remote remove aicrowd"
        address=aicrowd
        offer_token || true
    else
        offer_token || refuse "there is no remote 'aicrowd', and aicrowd-cli is not logged in. Either:" \
            "git remote add aicrowd git@$HOST:USER/$REPOSITORY.git; or: pip install aicrowd-cli && aicrowd login"
        [[ -n $user ]] || user=$(git config aicrowd.user || cli_value username '%s') ||
            refuse "which AIcrowd user? Give --user NAME, or run: git config aicrowd.user NAME"
        address=$(default_address)
        remote_is_new=yes
    fi
}

default_address() { printf 'https://%s/%s/%s.git' "$HOST" "$user" "$REPOSITORY"; }

check_no_credential() {
    local url
    while IFS= read -r url; do
        if [[ $url =~ ^[Hh][Tt][Tt][Pp][Ss]?://[^/]*@ ]]; then
            refuse "the remote 'aicrowd' holds a credential in its address; take it out:" \
                "git remote set-url aicrowd ${url%%://*}://${url#*@} (with --push, where that was set)." \
                "Others may have read it: have a new one made with aicrowd login"
        fi
    done < <(git remote get-url --all aicrowd && git remote get-url --all --push aicrowd)
}

# Tags of earlier submissions, here and there: lines of "hash refs/tags/NAME".
check_tag() {
    local here
    if here=$(git rev-parse --quiet --verify --short "refs/tags/$tag^{commit}"); then
        refuse "the tag $tag is there already, on commit $here: a submission's name is used once; choose another"
    fi
    remote_tags=$(git ls-remote "$address" 'refs/tags/submission-*') || refuse "the remote ($address) cannot be read," \
        "git's reason is above. If the repository is not there yet, fork the starter kit on $HOST; else check your key and network"
    if cut -f 2 <<<"$remote_tags" | grep -Fx "refs/tags/$tag" >/dev/null; then
        refuse "the remote has a tag $tag already: a submission's name is used once; choose another"
    fi
}

# ------------------------------------------------------------------------------------- staging, which can be taken back

# Remember what is about to change. Unless `committed` is set, it is put back at the end; aicrowd.json after a dry run alone.
remember() {
    local file
    committed="" scratch=$(mktemp -d)
    trap put_back EXIT
    for file in "$index" "$config" .gitattributes aicrowd.json; do
        [[ ! -e $file ]] || cp -p "$file" "$scratch/"
    done
}

put_back() {
    local status=$?
    if [[ -z $committed ]]; then
        cp -p "$scratch/index" "$index"
        cp -p "$scratch/config" "$config" # git-lfs writes there
        if [[ -e $scratch/.gitattributes ]]; then cp -p "$scratch/.gitattributes" .; else rm -f .gitattributes; fi
        [[ -z $dry_run || ! -e $scratch/aicrowd.json ]] || cp -p "$scratch/aicrowd.json" .
    fi
    rm -rf "$scratch"
    exit "$status"
}

preflight() {
    local python=${PYTHON:-$(command -v python || command -v python3 || echo python)}
    say "preflight:"
    "$python" -m my_submission preflight --fix ${no_run:+"$no_run"} --list "$scratch/checkpoints" ||
        refuse "preflight did not pass: what failed is above; nothing was committed or pushed"
    cmp -s aicrowd.json "$scratch/aicrowd.json" || say "aicrowd.json was changed: its flags now are those of the selected model"
}

in_lfs() { [[ $(git check-attr filter -- "$1") == *": filter: lfs" ]]; }

# Files over 5 MB, tracked or about to be.
large_files() {
    local file
    { git ls-files -z && tr '\n' '\0' <"$scratch/checkpoints"; } | while IFS= read -r -d '' file; do
        [[ ! -f $file || -L $file ]] || (($(wc -c <"$file") <= LARGE)) || printf '%s\0' "$file"
    done
}

# git-lfs installs its hooks whenever it sees a file; while all can still be taken back, it does so elsewhere.
git_add() { git -c core.hooksPath="$scratch/hooks" add "$@"; }

stage() {
    local file
    while IFS= read -r -d '' file; do
        type -P git-lfs >/dev/null || refuse "$file is over 5 MB and needs git-lfs; apt-get install git-lfs," \
            "brew install git-lfs, or https://git-lfs.com"
        in_lfs "$file" && continue
        git -c core.hooksPath="$scratch/hooks" lfs track --filename "$file" >/dev/null || refuse "git lfs track failed for $file"
        say "over 5 MB, so through git-lfs: $file"
        git_add .gitattributes
        # tracked already, as it is: let git look at it again
        [[ -z $(git ls-files -- "$file") ]] || git_add --renormalize -- "$file"
    done < <(large_files)
    git_add --update || refuse "git add failed, its reason is above"
    while IFS= read -r file; do
        git_add --force -- "$file" || refuse "git add failed for $file"
    done <"$scratch/checkpoints"
}

# List what goes into the commit, and what does not; refuse a submission that is one already.
check_changes() {
    local head base earlier untracked
    head=$(git rev-parse --quiet --verify HEAD) || head=""
    base=${head:-$(git hash-object -t tree /dev/null)}
    changed=$(git diff --cached --name-status "$base")
    if [[ -z $changed ]]; then
        earlier=$( { git tag --points-at HEAD 'submission-*'; sed -n "s|^$head.refs/tags/||p" <<<"$remote_tags"; } | sed -n 1p)
        earlier=${earlier%'^{}'}
        [[ -z $earlier ]] || refuse "nothing has changed since $earlier: AIcrowd does not evaluate a commit twice," \
            "whatever its tag; change something first"
        say "nothing to commit: the last commit, ${head:0:9}, is what is submitted"
    else
        say "to be committed on $branch:"
        awk '{ print "    " $0 }' <<<"$changed"
    fi
    untracked=$(git ls-files --others --exclude-standard | sed -n 1,5p)
    [[ -z $untracked ]] || say "not tracked, so left alone: $(tr '\n' ' ' <<<"$untracked")(git status lists all)"
}

# ------------------------------------------------------------------------------------------------------- what is final

commit_and_tag() {
    if [[ -n $changed ]]; then
        git commit --quiet -m "Submission $name" || refuse "git could not commit, its reason is above; nothing was changed"
    fi
    committed=yes
    git tag -a -m "$tag" "$tag" || refuse "git could not make the tag $tag, its reason is above; the commit is made, nothing is pushed"
}

push() {
    [[ -z $remote_is_new ]] || git remote add aicrowd "$address"
    if git ls-files | git check-attr --stdin filter | grep ': filter: lfs$' >/dev/null; then
        # for git commands to come; a hook of the user's own stays, and the next line does its work here
        command git lfs install --local >/dev/null 2>&1 || command git lfs install --local --skip-repo >/dev/null
        git lfs push aicrowd "$branch" || push_failed
    fi
    # no other tag goes along, whatever push.followTags says: each would be a submission
    git push --atomic --no-follow-tags aicrowd "refs/heads/$branch:refs/heads/$branch" "refs/tags/$tag:refs/tags/$tag" || push_failed
}

push_failed() {
    git tag -d "$tag" >/dev/null
    [[ -z $remote_is_new ]] || git remote remove aicrowd
    refuse "the push failed, git's reason is above; the remote is as it was, the commit stays on $branch, the tag was taken away" \
        "again. Where the remote's $branch has commits that are not here: git switch -c NEW-BRANCH. Then run this again"
}

main() {
    if [[ ${1-} == --credential ]]; then
        answer_git "${2-}"
        return
    fi
    type -P git >/dev/null || refuse "git is not installed"
    read_arguments "$@"
    cd "$(dirname "${BASH_SOURCE[0]}")"
    check_repository
    check_remote
    check_tag
    remember
    preflight
    stage
    check_changes
    if [[ -n $dry_run ]]; then
        say "dry run: would commit this, make the tag $tag, and push both to $address; all is as it was"
        return
    fi
    commit_and_tag
    push
    say "submitted: $tag, on branch $branch"
}

main "$@"
