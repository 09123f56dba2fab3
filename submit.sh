#!/usr/bin/env bash
# Submit the current branch to AIcrowd: check, commit, tag, push.
#
#     ./submit.sh "first try"              # creates and pushes the tag submission-first-try
#     ./submit.sh --dry-run "first try"    # prints the changes without making them
#
# Needs bash 3.2 (macOS) or later and a git of the last ten years. `./submit.sh --help` explains the options.

set -euo pipefail # because of pipefail, every reader of a pipe must read all of it: sed -n 1p instead of head

unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_PREFIX # a git alias or hook sets these, perhaps to another repository

readonly HOST=gitlab.aicrowd.com
readonly REPOSITORY=sdx-2023-music-demixing-track-starter-kit
readonly LARGE=5000000 # bytes; larger files go through git-lfs

usage() {
    cat <<'END'
usage: ./submit.sh [--dry-run] [--no-run] [--user NAME] SUBMISSION-NAME

Runs the preflight checks, commits the tracked files that changed and the selected model's checkpoints, tags the commit
submission-SUBMISSION-NAME (spaces become '-') and pushes the branch and the tag to the remote `aicrowd`. Never forces.

  --dry-run     print the changes and leave the repository as it was: no commit, no tag, no push
  --no-run      skip the preflight check that separates a song, which takes many minutes on a CPU
  --user NAME   your AIcrowd user name, for the remote's address (default: git config aicrowd.user, else aicrowd-cli's)

An existing remote `aicrowd` (ssh, or a folder) is used as it is. Without one, run `aicrowd login` first.
The environment variable PYTHON names the interpreter (default: python, else python3).

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

# ---------------------------------------------------------------------------------------------- git and the AIcrowd token

# Print the path of the file in which `aicrowd login` stores its token.
cli_config() {
    if [[ $(uname) == Darwin ]]; then
        printf '%s' "$HOME/Library/Application Support/aicrowd-cli/config.toml"
    else
        printf '%s' "${XDG_CONFIG_HOME:-$HOME/.config}/aicrowd-cli/config.toml"
    fi
}

# cli_value KEY FORMAT: print FORMAT with the value of KEY in that file's section [gitlab]; fail if there is none.
# awk writes the value to standard output, so it never appears in a variable, an argument or a trace.
cli_value() {
    awk -F '"' -v key="$1" -v format="$2" '
        /^\[/ { inside = ($0 ~ /^\[gitlab\]/) }
        inside && $0 ~ "^" key "[ \t]*=" && $2 != "" { printf format, $2; found = 1; exit }
        END { exit !found }
    ' "$(cli_config)" 2>/dev/null
}

# Answer git as its credential helper when it needs the token; see gitcredentials(7).
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

# Settings for every later git command and for git-lfs, which git starts; none of them is stored.
settings=(
    -c core.quotePath=false # print file names without escapes
    -c "filter.lfs.clean=git-lfs clean -- %f"
    -c "filter.lfs.smudge=git-lfs smudge -- %f"
    -c "filter.lfs.process=git-lfs filter-process"
    -c "filter.lfs.required=true"
)

git() { command git "${settings[@]}" "$@"; }

# Let git ask this script for the token; fail if there is no token.
offer_token() {
    cli_value oauth_token '%s' >/dev/null || return 1
    SUBMIT_SH=$PWD/submit.sh
    export SUBMIT_SH
    # the empty helper removes all others, which could store the token
    settings+=(-c "credential.https://$HOST.helper=" -c "credential.https://$HOST.helper=!bash \"\$SUBMIT_SH\" --credential")
}

# ----------------------------------------------------------------------------------------- checks before any change

read_arguments() {
    dry_run="" no_run="" user="" name=""
    while (($#)); do
        case $1 in
            -h | --help) usage && exit 0 ;;
            --dry-run) dry_run=yes ;;
            --no-run) no_run=--no-run ;;
            --user)
                (($# > 1)) || usage_error "--user needs a name"
                user=$2
                shift
                ;;
            -*) usage_error "no such option: $1" ;;
            *)
                [[ -z $name ]] || usage_error "expected one name, found '$name' and '$1'; quote a name that has spaces"
                name=$1
                [[ -n $name ]] || usage_error "the name is empty"
                ;;
        esac
        shift
    done
    [[ -n $name ]] || usage_error "expected a name for the submission"
    [[ -z $user || $user =~ ^[A-Za-z0-9_.-]+$ ]] || usage_error "'$user' is not an AIcrowd user name"
    tag=submission-${name// /-}
    command git check-ref-format "refs/tags/$tag" ||
        usage_error "git does not accept the tag '$tag'; use letters, digits, '-' and '_'"
}

check_repository() {
    local top
    top=$(git rev-parse --show-toplevel 2>/dev/null) ||
        refuse "$PWD is not a git repository; run git init, git add and git commit first"
    [[ $top -ef . ]] || refuse "the git repository begins at $top, expected $PWD, the folder of submit.sh"
    branch=$(git symbolic-ref --quiet --short HEAD) ||
        refuse "HEAD is detached, so there is no branch to push; run git switch -c NAME first"
    [[ -n $(git ls-files | sed -n 1p) ]] ||
        refuse "git tracks no files here; run git add for the files of your submission first"
    [[ -z $(git ls-files --unmerged) ]] || refuse "a merge is unfinished (git status says where); finish it first"
    index=$(git rev-parse --git-path index)
    config=$(git rev-parse --git-path config)
}

# Find the address of the remote. Sets `address`, and `remote_is_new` if the remote does not exist yet.
check_remote() {
    local url
    remote_is_new=""
    if url=$(git config remote.aicrowd.url); then
        check_no_credential
        [[ -z $user || $url == "$(default_address)" ]] || refuse "--user $user is only for a new remote, but the remote" \
            "'aicrowd' exists; leave out --user, or remove the remote: git remote remove aicrowd"
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
            refuse "the address of the remote 'aicrowd' holds a credential; remove it:" \
                "git remote set-url aicrowd ${url%%://*}://${url#*@} (with --push if it is the push address)." \
                "Others may have read it, so replace it: aicrowd login"
        fi
    done < <(git remote get-url --all aicrowd && git remote get-url --all --push aicrowd)
}

# Refuse a tag that exists locally or on the remote. Sets `remote_tags`: lines of "hash refs/tags/NAME".
check_tag() {
    local here
    if here=$(git rev-parse --quiet --verify --short "refs/tags/$tag^{commit}"); then
        refuse "the tag $tag exists already, on commit $here; choose another name for the submission"
    fi
    remote_tags=$(git ls-remote "$address" 'refs/tags/submission-*') || refuse "the remote ($address) cannot be read;" \
        "git's reason is above. If the repository does not exist yet, fork the starter kit on $HOST;" \
        "else check your key and network"
    if cut -f 2 <<<"$remote_tags" | grep -Fx "refs/tags/$tag" >/dev/null; then
        refuse "the tag $tag exists on the remote already; choose another name for the submission"
    fi
}

# ------------------------------------------------------------------------------------------ staging, which is undone on failure

# Save the files that staging changes. `put_back` restores them at exit unless `committed` is set; aicrowd.json only after a
# dry run.
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
        cp -p "$scratch/config" "$config" # git-lfs changes it
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
        refuse "preflight did not pass; the failed checks are above; nothing was committed or pushed"
    cmp -s aicrowd.json "$scratch/aicrowd.json" || say "aicrowd.json was changed: its flags are now those of the selected model"
}

in_lfs() { [[ $(git check-attr filter -- "$1") == *": filter: lfs" ]]; }

# Print the files over 5 MB that are tracked or will be, each followed by a NUL.
large_files() {
    local file
    { git ls-files -z && tr '\n' '\0' <"$scratch/checkpoints"; } | while IFS= read -r -d '' file; do
        [[ ! -f $file || -L $file ]] || (($(wc -c <"$file") <= LARGE)) || printf '%s\0' "$file"
    done
}

# git-lfs installs its hooks whenever it handles a file. Until the commit, they go to a scratch folder.
git_add() { git -c core.hooksPath="$scratch/hooks" add "$@"; }

stage() {
    local file
    while IFS= read -r -d '' file; do
        type -P git-lfs >/dev/null || refuse "$file is over 5 MB and needs git-lfs; install it: apt-get install git-lfs," \
            "brew install git-lfs, or https://git-lfs.com"
        in_lfs "$file" && continue
        git -c core.hooksPath="$scratch/hooks" lfs track --filename "$file" >/dev/null ||
            refuse "git lfs track failed for $file"
        say "over 5 MB, so through git-lfs: $file"
        git_add .gitattributes
        # a file that is tracked already must pass through the new filter
        [[ -z $(git ls-files -- "$file") ]] || git_add --renormalize -- "$file"
    done < <(large_files)
    git_add --update || refuse "git add failed; its reason is above"
    while IFS= read -r file; do
        git_add --force -- "$file" || refuse "git add failed for $file"
    done <"$scratch/checkpoints"
}

# List the files of the commit and the untracked ones; refuse a commit that has been submitted already.
check_changes() {
    local head base earlier untracked
    head=$(git rev-parse --quiet --verify HEAD) || head=""
    base=${head:-$(git hash-object -t tree /dev/null)}
    changed=$(git diff --cached --name-status "$base")
    if [[ -z $changed ]]; then
        earlier=$( { git tag --points-at HEAD 'submission-*'; sed -n "s|^$head.refs/tags/||p" <<<"$remote_tags"; } | sed -n 1p)
        earlier=${earlier%'^{}'}
        [[ -z $earlier ]] || refuse "nothing has changed since $earlier, and AIcrowd does not evaluate a commit twice;" \
            "change something first"
        say "nothing to commit: the last commit, ${head:0:9}, is submitted"
    else
        say "to be committed on $branch:"
        awk '{ print "    " $0 }' <<<"$changed"
    fi
    untracked=$(git ls-files --others --exclude-standard | sed -n 1,5p)
    [[ -z $untracked ]] || say "not tracked, so left alone: $(tr '\n' ' ' <<<"$untracked")(git status lists all)"
}

# ------------------------------------------------------------------------------------------- commit, tag and push

commit_and_tag() {
    if [[ -n $changed ]]; then
        git commit --quiet -m "Submission $name" || refuse "git could not commit; its reason is above; nothing was changed"
    fi
    committed=yes
    git tag -a -m "$tag" "$tag" ||
        refuse "git could not create the tag $tag; its reason is above; the commit exists, nothing was pushed"
}

push() {
    [[ -z $remote_is_new ]] || git remote add aicrowd "$address"
    if git ls-files | git check-attr --stdin filter | grep ': filter: lfs$' >/dev/null; then
        # for later git commands; if the user has other hooks, they stay, and the explicit lfs push below is enough
        command git lfs install --local >/dev/null 2>&1 || command git lfs install --local --skip-repo >/dev/null
        git lfs push aicrowd "$branch" || push_failed
    fi
    # push no other tag, even if push.followTags is set: each would be a submission
    git push --atomic --no-follow-tags aicrowd "refs/heads/$branch:refs/heads/$branch" "refs/tags/$tag:refs/tags/$tag" ||
        push_failed
}

push_failed() {
    git tag -d "$tag" >/dev/null
    [[ -z $remote_is_new ]] || git remote remove aicrowd
    refuse "the push failed; git's reason is above. The remote is unchanged, the commit stays on $branch, and the tag" \
        "was removed. If the remote's $branch has commits that are missing here: git switch -c NEW-BRANCH." \
        "Then run this command again"
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
        say "dry run: would commit this, create the tag $tag, and push both to $address; nothing was changed"
        return
    fi
    commit_and_tag
    push
    say "submitted: $tag, on branch $branch"
}

main "$@"
