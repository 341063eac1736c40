# SPDX-License-Identifier: MIT
# One table out of what `gcov -b` says about each file of the library.

# "Lines executed:98.21% of 168" says how many, and of how many.
function reached(text,  words) { sub(/.*:/, "", text); split(text, words, "% of "); return words[1] * words[2] / 100 }
function count(text,  words) { split(text, words, "% of "); return words[2] }
function share(some, all) { return sprintf("%6.2f %% of %4d", all ? 100 * some / all : 100, all) }
function row(name, lines, of_lines, branches, of_branches) {
    printf "%-14s %16s %16s\n", name, share(lines, of_lines), share(branches, of_branches)
}
function finish() {
    if (of_lines > 0) {
        row(name, lines, of_lines, branches, of_branches)
        all_lines += lines; all_of_lines += of_lines
        all_branches += branches; all_of_branches += of_branches
    }
    name = ""; lines = of_lines = branches = of_branches = 0
}

BEGIN { printf "%-14s %16s %16s\n", "file", "lines", "branches" }
/^$/ { finish() }
/^File '(.*\/)?c\/[a-z_]*\.[ch]'$/ { name = $2; gsub(/.*\/|'/, "", name) }
name == "" { next }
/^Lines executed/ { lines = reached($0); of_lines = count($0) }
/^Taken at least once/ { branches = reached($0); of_branches = count($0) }
END { finish(); row("together", all_lines, all_of_lines, all_branches, all_of_branches) }
