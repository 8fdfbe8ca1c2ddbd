//! The pages of the repository, and the Markdown parsing that the tests need.

use std::path::Path;

/// A page, by its path in the repository.
#[derive(Clone, Copy)]
pub(crate) struct Page {
    pub(crate) path: &'static str,
    pub(crate) text: &'static str,
}

/// Every page.
pub(crate) const PAGES: [Page; 9] = [
    README,
    DATA,
    Page {
        path: "cross/README.md",
        text: include_str!("../../../cross/README.md"),
    },
    MODELS,
    SYSTEMD,
    Page {
        path: "systemd/cluster/README.md",
        text: include_str!("../../../systemd/cluster/README.md"),
    },
    Page {
        path: "systemd/cluster/scale.md",
        text: include_str!("../../../systemd/cluster/scale.md"),
    },
    Page {
        path: "tests/README.md",
        text: include_str!("../../README.md"),
    },
    CHANGELOG,
];
pub(crate) const README: Page = Page {
    path: "README.md",
    text: include_str!("../../../README.md"),
};
pub(crate) const DATA: Page = Page {
    path: "src/dataset/README.md",
    text: include_str!("../../../src/dataset/README.md"),
};
pub(crate) const MODELS: Page = Page {
    path: "models/README.md",
    text: include_str!("../../../models/README.md"),
};
pub(crate) const SYSTEMD: Page = Page {
    path: "systemd/README.md",
    text: include_str!("../../../systemd/README.md"),
};
pub(crate) const CHANGELOG: Page = Page {
    path: "CHANGELOG.md",
    text: include_str!("../../../CHANGELOG.md"),
};

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Page {
    /// The fenced blocks of `language` that follow the comment `mark`.
    pub(crate) fn examples(&self, mark: &str, language: &str) -> Vec<&'static str> {
        let begin = format!("<!-- {mark} -->\n```{language}\n");
        let blocks = self.text.split(&begin).skip(1);
        blocks.filter_map(|text| text.split("```").next()).collect()
    }

    /// Shell text: fenced `sh` blocks, and blocks that are indented by four spaces.
    pub(crate) fn shell(&self) -> String {
        let mut out = String::new();
        let mut fence: Option<&str> = None;
        let mut before = "";
        let mut is_code = false;
        for line in self.text.lines() {
            match (line.strip_prefix("```"), fence) {
                (Some(language), None) => fence = Some(language),
                (Some(_), Some(_)) => fence = None,
                (None, Some(language)) => {
                    if language == "sh" {
                        out.push_str(line);
                        out.push('\n');
                    }
                }
                (None, None) => {
                    let is_indented = line.starts_with("    ");
                    is_code = is_indented && (is_code || before.trim().is_empty());
                    if is_code {
                        out.push_str(line);
                        out.push('\n');
                    }
                }
            }
            before = line;
        }
        out
    }

    /// The text without its code blocks.
    pub(crate) fn prose(&self) -> String {
        let mut is_fenced = false;
        let lines = self.text.lines().filter(|line| {
            let is_fence = line.starts_with("```");
            is_fenced ^= is_fence;
            !is_fence && !is_fenced && !line.starts_with("    ")
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The texts in `backticks`, each on one line.
    pub(crate) fn spans(&self) -> Vec<String> {
        let paragraphs = self.prose();
        let paragraphs = paragraphs.split("\n\n");
        let spans = paragraphs.flat_map(|text| text.split('`').skip(1).step_by(2));
        spans
            .map(|span| span.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    }

    /// The targets of its links and images.
    pub(crate) fn links(&self) -> Vec<String> {
        let prose = self.prose();
        let targets = prose.split("](").skip(1);
        targets
            .filter_map(|rest| rest.split(')').next())
            .map(str::to_owned)
            .collect()
    }

    /// The anchors of its headings.
    pub(crate) fn anchors(&self) -> Vec<String> {
        let prose = self.prose();
        let headings = prose.lines().filter(|line| line.starts_with('#'));
        let slug = |heading: &str| {
            let title = heading.trim_start_matches('#').trim().to_lowercase();
            title
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        };
        headings.map(slug).collect()
    }
}

/// The simple commands of a shell text, each as its words. Quotes group words. Comments and redirections are left
/// out. Nothing is expanded.
pub(crate) fn commands(shell: &str) -> Vec<Vec<String>> {
    let shell = shell.replace("\\\n", " ");
    let mut commands = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = shell.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => while chars.next_if(|c| *c != '\n').is_some() {},
            (None, c) if c.is_whitespace() || "|&;()<>".contains(c) => {
                let last = commands.last_mut().unwrap();
                last.extend(word.take());
                if "\n|&;()".contains(c) {
                    commands.push(Vec::new());
                }
            }
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    assert!(quote.is_none(), "a quote is not closed: {shell}");
    commands.last_mut().unwrap().extend(word);
    commands.retain(|words| !words.is_empty());
    commands
}

#[test]
fn commands_are_split_as_a_shell_does() {
    let text = "a 'b c' \"d\" # e\n(f && g | h > i; sudo -u x \\\n  y '')\n";
    let expected = [
        vec!["a", "b c", "d"],
        vec!["f"],
        vec!["g"],
        vec!["h", "i"],
        vec!["sudo", "-u", "x", "y", ""],
    ];
    assert_eq!(commands(text), expected);
}
