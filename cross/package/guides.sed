# README and the guide to installation as a package carries them: they name each other and the config where they are.
s|\[`cross/README.md`\](cross/README.md)|`guide.md.gz` beside this file|
s|\[`systemd/handloom.toml`\](systemd/handloom.toml)|`/etc/handloom/handloom.toml`|
