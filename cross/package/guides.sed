# README and the guide to installation as a package carries them: they name each other and the config where they are.
s|\[`cross/README.md`\](cross/README.md)|`guide.md.gz` beside this file|
s|\[`systemd/handloom.toml`\](systemd/handloom.toml)|`/etc/handloom/handloom.toml`|
/^# Handloom$/a\
\
From the package `handloom` is installed, with models, runtime and plugins: where this text says `make demo`, type `handloom demo\
--out demo-out`; for `target/release/handloom`, `handloom`. Every other `make` needs the sources.
/^## Build packages$/a\
\
In the sources:
