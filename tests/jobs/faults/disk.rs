//! A simulated disk: the changes made to it, which of them are synced, and what a power cut may leave.

use super::Op;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use test_support::TestRng;

/// Folders and files below a root, by relative path; a folder has no content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct State(pub(crate) BTreeMap<String, Option<Arc<Vec<u8>>>>);

/// What a power cut loses. Synced content and names always survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Everything unsynced. This is stricter than ext4, where syncing a new file also keeps its name.
    All,
    /// Unsynced content; names reached the medium in order. This leaves the classic empty file after a rename.
    Data,
    /// Unsynced names; content reached the medium.
    Names,
    /// Random unsynced changes of content and, in each folder, all changes of names from a random moment on. The
    /// ledger's shared-memory file exists and holds random bytes.
    Some,
    /// Nothing: the process was killed, or the cut came late.
    Nothing,
}

impl Loss {
    pub(crate) const EVERY: [Self; 5] = [
        Self::All,
        Self::Data,
        Self::Names,
        Self::Some,
        Self::Nothing,
    ];
}

#[derive(Clone, Copy, Debug)]
enum Node {
    Folder(usize),
    File(usize),
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

/// A change of names in a folder: a name disappears, a name points to another node, or both at once (a rename).
#[derive(Clone, Debug)]
struct Naming {
    goes: Option<String>,
    comes: Option<(String, Node)>,
}

type Names = BTreeMap<String, Node>;

#[derive(Clone, Debug, Default)]
struct Folder {
    synced: Names,
    now: Names,
    unsynced: Vec<Naming>,
}

#[derive(Clone, Debug, Default)]
struct File {
    synced: Vec<u8>,
    now: Vec<u8>,
    unsynced: Vec<Change>,
}

/// The folders and files below a root, with their unsynced changes in order.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    folders: Vec<Folder>,
    files: Vec<File>,
    open: BTreeMap<i32, Node>,
}

const ROOT: usize = 0;
/// Suffix of SQLite's shared-memory file, which is unsafe by design and rebuilt at the next start.
const SHARED_MEMORY: &str = "-shm";

impl State {
    /// Reads everything below `root`.
    pub(crate) fn read(root: &Path) -> Self {
        fn walk(folder: &Path, prefix: &str, into: &mut State) {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
                if entry.file_type().unwrap().is_dir() {
                    walk(&entry.path(), &format!("{path}/"), into);
                    into.0.insert(path, None);
                } else if !path.ends_with(SHARED_MEMORY) {
                    let bytes = fs::read(entry.path()).unwrap();
                    into.0.insert(path, Some(Arc::new(bytes)));
                }
            }
        }
        let mut state = Self::default();
        walk(root, "", &mut state);
        state
    }

    /// Makes `root` hold this and nothing else.
    pub(crate) fn write(&self, root: &Path) {
        if root.exists() {
            fs::remove_dir_all(root).unwrap();
        }
        fs::create_dir_all(root).unwrap();
        // A folder sorts before what is in it.
        for (path, content) in &self.0 {
            match content {
                None => fs::create_dir(root.join(path)).unwrap(),
                Some(bytes) => fs::write(root.join(path), &**bytes).unwrap(),
            }
        }
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }
}

impl Naming {
    fn apply(&self, names: &mut Names) {
        if let Some(name) = &self.goes {
            names.remove(name);
        }
        if let Some((name, node)) = &self.comes {
            names.insert(name.clone(), *node);
        }
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Truncate(length) => content.resize(*length, 0),
            Self::Write(at, bytes) => {
                let end = at + bytes.len();
                content.resize(content.len().max(end), 0);
                content[*at..end].copy_from_slice(bytes);
            }
        }
    }
}

impl Disk {
    /// A disk on which all of `state` is synced.
    pub(crate) fn new(state: &State) -> Self {
        let mut disk = Self {
            folders: vec![Folder::default()],
            files: Vec::new(),
            open: BTreeMap::new(),
        };
        for (path, content) in &state.0 {
            let node = match content {
                None => disk.new_folder(),
                Some(bytes) => disk.new_file(bytes.to_vec()),
            };
            let (folder, name) = disk.locate(path);
            let folder = &mut disk.folders[folder];
            folder.now.insert(name.clone(), node);
            folder.synced.insert(name, node);
        }
        disk
    }

    fn new_folder(&mut self) -> Node {
        self.folders.push(Folder::default());
        Node::Folder(self.folders.len() - 1)
    }

    fn new_file(&mut self, content: Vec<u8>) -> Node {
        self.files.push(File {
            synced: content.clone(),
            now: content,
            unsynced: Vec::new(),
        });
        Node::File(self.files.len() - 1)
    }

    /// The folder that `path` is in, and its name there.
    fn locate(&self, path: &str) -> (usize, String) {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        match self.find(above) {
            Some(Node::Folder(folder)) => (folder, name.to_owned()),
            other => panic!("{above} is {other:?}"),
        }
    }

    fn find(&self, path: &str) -> Option<Node> {
        let mut at = Node::Folder(ROOT);
        for name in path.split('/').filter(|n| !n.is_empty()) {
            let Node::Folder(folder) = at else {
                return None;
            };
            at = *self.folders[folder].now.get(name)?;
        }
        Some(at)
    }

    fn name(&mut self, folder: usize, goes: Option<String>, comes: Option<(String, Node)>) {
        let naming = Naming { goes, comes };
        let folder = &mut self.folders[folder];
        naming.apply(&mut folder.now);
        folder.unsynced.push(naming);
    }

    fn change(&mut self, fd: i32, change: Change) {
        let Some(Node::File(file)) = self.open.get(&fd) else {
            panic!("{fd} is no open file");
        };
        let file = &mut self.files[*file];
        change.apply(&mut file.now);
        file.unsynced.push(change);
    }

    pub(crate) fn apply(&mut self, op: &Op) {
        match op {
            Op::Open {
                fd,
                path,
                creates,
                empties,
            } => {
                let node = self.find(path).unwrap_or_else(|| {
                    assert!(creates, "{path} is opened but was never created");
                    let node = self.new_file(Vec::new());
                    let (folder, name) = self.locate(path);
                    self.name(folder, None, Some((name, node)));
                    node
                });
                self.open.insert(*fd, node);
                if let Node::File(file) = node
                    && *empties
                    && !self.files[file].now.is_empty()
                {
                    self.change(*fd, Change::Truncate(0));
                }
            }
            Op::Close { fd } => {
                self.open.remove(fd);
            }
            Op::Write { fd, at, bytes } => self.change(*fd, Change::Write(*at, bytes.clone())),
            Op::Truncate { fd, length } => self.change(*fd, Change::Truncate(*length)),
            Op::Sync { fd } => match self.open[fd] {
                Node::File(file) => {
                    let file = &mut self.files[file];
                    file.synced.clone_from(&file.now);
                    file.unsynced.clear();
                }
                Node::Folder(folder) => {
                    let folder = &mut self.folders[folder];
                    folder.synced.clone_from(&folder.now);
                    folder.unsynced.clear();
                }
            },
            Op::Rename { from, to } => {
                let ((folder, old), (target, new)) = (self.locate(from), self.locate(to));
                assert_eq!(folder, target, "{from} leaves its folder");
                let node = self.folders[folder].now[&old];
                self.name(folder, Some(old), Some((new, node)));
            }
            Op::Remove { path } => {
                let (folder, name) = self.locate(path);
                self.name(folder, Some(name), None);
            }
            Op::MakeFolder { path } => {
                let node = self.new_folder();
                let (folder, name) = self.locate(path);
                self.name(folder, None, Some((name, node)));
            }
            Op::Print { .. } => {}
        }
    }

    /// Closes all files, as when the process ends. Unsynced changes may still reach the medium.
    pub(crate) fn close_all(&mut self) {
        self.open.clear();
    }

    /// The state after a power cut with this loss.
    pub(crate) fn after(&self, loss: Loss, rng: &mut TestRng) -> State {
        let is_settled = self.folders.iter().all(|f| f.unsynced.is_empty())
            && self.files.iter().all(|f| f.unsynced.is_empty());
        let loss = if is_settled { Loss::Nothing } else { loss };
        let mut state = State::default();
        self.walk(ROOT, "", loss, rng, &mut state);
        state
    }

    fn walk(&self, folder: usize, prefix: &str, loss: Loss, rng: &mut TestRng, into: &mut State) {
        let folder = &self.folders[folder];
        let names = match loss {
            Loss::All | Loss::Names => folder.synced.clone(),
            Loss::Data | Loss::Nothing => folder.now.clone(),
            Loss::Some => {
                let kept = rng.below(folder.unsynced.len() + 1);
                let mut names = folder.synced.clone();
                folder.unsynced[..kept]
                    .iter()
                    .for_each(|n| n.apply(&mut names));
                names
            }
        };
        for (name, node) in names {
            let path = format!("{prefix}{name}");
            match node {
                Node::Folder(below) => {
                    into.0.insert(path.clone(), None);
                    self.walk(below, &format!("{path}/"), loss, rng, into);
                }
                Node::File(file) => {
                    let file = &self.files[file];
                    let content = match loss {
                        Loss::All | Loss::Data => file.synced.clone(),
                        Loss::Names | Loss::Nothing => file.now.clone(),
                        Loss::Some => {
                            let mut content = file.synced.clone();
                            let kept = file.unsynced.iter().filter(|_| rng.below(2) == 0);
                            kept.for_each(|c| c.apply(&mut content));
                            content
                        }
                    };
                    if loss == Loss::Some && name.ends_with(".sqlite") {
                        let rubbish = (0..1 << 15).map(|_| rng.byte()).collect();
                        into.0
                            .insert(format!("{path}{SHARED_MEMORY}"), Some(Arc::new(rubbish)));
                    }
                    into.0.insert(path, Some(Arc::new(content)));
                }
            }
        }
    }
}
