# The pages as the package carries them: they name each other as the files beside them, and link to nothing else here.
s|!\[[^]]*\]([^)]*)||g
s|\[`systemd/handloom.toml`\](handloom.toml)|`/etc/handloom/handloom.toml`|g
s|\[\([^]]*\)\](\(\.\./\)*cross/README\.md[^)]*)|\1 (`install.md.gz`)|g
s#\[`\(slurm\.sbatch\|kubernetes[a-z-]*\.yaml\|parallel\.sh\)`\](\1)#`examples/cluster/\1`#g
s|\[\([^]]*\)\](\(\.\./\)*\(systemd/\)\?cluster/README\.md[^)]*)|\1 (`cluster.md.gz`)|g
s|\[\([^]]*\)\](scale\.md[^)]*)|\1 (`scale.md.gz`)|g
s|\[\([^]]*\)\](\(\.\./\)*systemd/README\.md[^)]*)|\1 (`operate.md.gz`)|g
s|\[\([^]]*\)\](\(\.\./\)*models/README\.md[^)]*)|\1 (`accelerators.md.gz`)|g
s|\[\([^]]*\)\](\(\.\./\)*src/dataset/README\.md[^)]*)|\1 (`data.md.gz`)|g
s|\[\([^]]*\)\](\.\./\.\./README\.md[^)]*)|\1 (`README.md.gz`)|g
s|\[\([^]]*\)\](CHANGELOG\.md)|\1 (`changelog.gz`)|g
s|\[\([^]]*\)\](\(\.\./\)*tests/[^)]*)|\1 (in the sources)|g
s|\[\(`models/manifest.json`\)\](manifest\.json)|\1 (in the sources)|g
s|\[\([^]]*\)\](#[^)]*)|\1|g
/^# Handloom$/a\
\
This is the package's copy. `handloom` is installed, with models, runtime and plugins. Where this text says `make demo`,\
type `handloom demo --out demo-out`. Every other `make` needs the sources.
/^## Build packages$/a\
\
In the sources:
