//! What one can do in the tree: `cat`, `cd`, `find`, `ls`, `tree` and the rest, in the words of Kafka's shell.
//!
//! Owns the working directory and the history. Paths may hold `*` and `?`.

use super::tree::Node;
use crate::tool::out;

const COMMANDS: [(&str, &str, &str); 10] = [
    ("cat", "[targets ...]", "Shows what is in files."),
    ("cd", "[target]", "Changes the working directory."),
    ("exit", "", "Ends the shell."),
    ("find", "[paths ...]", "Shows a node and everything under it."),
    ("help", "", "Shows this text."),
    ("history", "[numEntriesToShow]", "Shows the commands so far."),
    ("ls", "[targets ...]", "Lists nodes."),
    ("man", "cmd", "Shows what a command does."),
    ("pwd", "", "Shows the working directory."),
    ("tree", "targets [targets ...]", "Shows what is in nodes as a tree."),
];

/// Whether the shell goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Go,
    End,
}

/// A shell in a tree.
pub(super) struct Shell {
    root: Node,
    /// Names from the root.
    directory: Vec<String>,
    history: Vec<String>,
}

/// A place that a target stands for: its path as shown, and the node.
struct Found<'a> {
    path: Vec<String>,
    node: &'a Node,
}

impl Shell {
    pub(super) fn new(root: Node) -> Shell {
        Shell { root, directory: Vec::new(), history: Vec::new() }
    }

    pub(super) fn remember(&mut self, line: &str) {
        // more than anybody looks back
        const MOST: usize = 10_000;
        if self.history.len() >= MOST {
            self.history.remove(0);
        }
        self.history.push(line.to_string());
    }

    /// Runs one command and prints its output.
    pub(super) fn run(&mut self, words: &[&str]) -> Next {
        let mut text = String::new();
        let next = self.execute(words, &mut text);
        out(text);
        next
    }

    fn execute(&mut self, words: &[&str], text: &mut String) -> Next {
        let Some((command, arguments)) = words.split_first() else { return Next::Go };
        if !COMMANDS.iter().any(|(name, ..)| name == command) {
            let names: Vec<String> = COMMANDS.iter().map(|(name, ..)| format!("'{name}'")).collect();
            text.push_str(&format!("invalid choice: '{command}' (choose from {})\n", names.join(", ")));
            return Next::Go;
        }
        let most = match *command {
            "cd" | "history" | "man" => 1,
            "exit" | "help" | "pwd" => 0,
            _ => usize::MAX,
        };
        let unknown = arguments.iter().find(|a| a.starts_with('-') && a.len() > 1).or(arguments.get(most));
        if let Some(unknown) = unknown {
            text.push_str(&format!("unrecognized arguments: '{unknown}'\n"));
            return Next::Go;
        }
        if arguments.is_empty() && ["cat", "tree", "man"].contains(command) {
            text.push_str("too few arguments\n");
            return Next::Go;
        }
        match *command {
            "cat" => self.cat(arguments, text),
            "cd" => self.cd(arguments.first().copied().unwrap_or("/"), text),
            "exit" => return Next::End,
            "find" => self.find(arguments, text),
            "history" => self.show_history(arguments.first().copied(), text),
            "ls" => self.ls(arguments, text),
            "man" => man(arguments.first().copied().unwrap_or_default(), text),
            "pwd" => text.push_str(&format!("{}\n", shown(&self.directory))),
            "tree" => self.tree(arguments, text),
            _ => help(text),
        }
        Next::Go
    }

    /// The nodes that a target stands for.
    fn resolve(&self, target: &str) -> Vec<Found<'_>> {
        let base = if target.starts_with('/') { Vec::new() } else { self.directory.clone() };
        let mut found: Vec<Found<'_>> =
            self.root.at(&base).map(|node| Found { path: base, node }).into_iter().collect();
        for part in target.split('/').filter(|part| !part.is_empty() && *part != ".") {
            if part == ".." {
                found = found
                    .into_iter()
                    .filter_map(|mut place| {
                        place.path.pop();
                        Some(Found { node: self.root.at(&place.path)?, path: place.path })
                    })
                    .collect();
                continue;
            }
            found = found
                .into_iter()
                .flat_map(|place| {
                    let children = match place.node {
                        Node::Directory(children) => Some(children),
                        Node::File(_) => None,
                    };
                    let path = place.path;
                    children.into_iter().flatten().filter(|(name, _)| matches(part, name)).map(move |(name, node)| {
                        let path = path.iter().cloned().chain([name.clone()]).collect();
                        Found { path, node }
                    })
                })
                .collect();
        }
        found
    }

    fn cat(&self, targets: &[&str], text: &mut String) {
        for target in targets {
            let found = self.resolve(target);
            if found.is_empty() {
                text.push_str(&format!("cat: {target}: No such file or directory.\n"));
            }
            for place in found {
                match place.node {
                    Node::File(content) => text.push_str(&format!("{content}\n")),
                    Node::Directory(_) => text.push_str(&format!("cat: {target}: Is a directory\n")),
                }
            }
        }
    }

    fn cd(&mut self, target: &str, text: &mut String) {
        let chosen = match self.resolve(target).into_iter().next() {
            Some(Found { path, node: Node::Directory(_) }) => Ok(path),
            Some(_) => Err("not a directory"),
            None => Err("no such directory"),
        };
        match chosen {
            Ok(path) => self.directory = path,
            Err(reason) => text.push_str(&format!("cd: {target}: {reason}.\n")),
        }
    }

    fn find(&self, targets: &[&str], text: &mut String) {
        let targets = if targets.is_empty() { &["."][..] } else { targets };
        for target in targets {
            let found = self.resolve(target);
            if found.is_empty() {
                text.push_str(&format!("find: {target}: no such file or directory.\n"));
            }
            for place in found {
                walk(&shown(&place.path), place.node, text);
            }
        }
    }

    fn ls(&self, targets: &[&str], text: &mut String) {
        let targets = if targets.is_empty() { &["."][..] } else { targets };
        let mut files = Vec::new();
        let mut directories = Vec::new();
        for target in targets {
            let found = self.resolve(target);
            if found.is_empty() {
                text.push_str(&format!("ls: {target}: no such file or directory.\n"));
            }
            for place in found {
                match place.node {
                    Node::File(_) => files.push(place.path.last().cloned().unwrap_or_default()),
                    Node::Directory(children) => {
                        directories.push((place.path.last().cloned().unwrap_or_else(|| "/".into()), children));
                    }
                }
            }
        }
        files.iter().for_each(|name| text.push_str(&format!("{name}\n")));
        let titled = !files.is_empty() || directories.len() > 1;
        for (index, (name, children)) in directories.iter().enumerate() {
            if index > 0 || !files.is_empty() {
                text.push('\n');
            }
            if titled {
                text.push_str(&format!("{name}:\n"));
            }
            children.keys().for_each(|child| text.push_str(&format!("{child}\n")));
        }
    }

    fn tree(&self, targets: &[&str], text: &mut String) {
        for target in targets {
            let found = self.resolve(target);
            if found.is_empty() {
                text.push_str(&format!("tree: {target}: No such file or directory.\n"));
            }
            for place in found {
                indented(place.node, 0, text);
            }
        }
    }

    fn show_history(&self, count: Option<&str>, text: &mut String) {
        let count = count.and_then(|count| count.parse().ok()).unwrap_or(usize::MAX);
        let skipped = self.history.len().saturating_sub(count);
        for (index, line) in self.history.iter().enumerate().skip(skipped) {
            text.push_str(&format!("{index:>5}  {line}\n"));
        }
    }
}

fn shown(path: &[String]) -> String {
    format!("/{}", path.join("/"))
}

fn walk(path: &str, node: &Node, text: &mut String) {
    text.push_str(&format!("{path}\n"));
    if let Node::Directory(children) = node {
        let base = if path == "/" { "" } else { path };
        children.iter().for_each(|(name, child)| walk(&format!("{base}/{name}"), child, text));
    }
}

fn indented(node: &Node, depth: usize, text: &mut String) {
    let blanks = " ".repeat(depth * 2);
    match node {
        Node::File(content) => text.push_str(&format!("{blanks}{content}\n")),
        Node::Directory(children) => {
            for (name, child) in children {
                text.push_str(&format!("{blanks}{name}:\n"));
                indented(child, depth + 1, text);
            }
        }
    }
}

fn man(command: &str, text: &mut String) {
    match COMMANDS.iter().find(|(name, ..)| *name == command) {
        Some((name, usage, doc)) => text.push_str(&format!("{name}: {doc}\n\nusage: {name} {usage}\n")),
        None => text.push_str(&format!("man: unknown command {command}. Type help to get a list of commands.\n")),
    }
}

fn help(text: &mut String) {
    let names: Vec<&str> = COMMANDS.iter().map(|(name, ..)| *name).collect();
    let names = names.join(",");
    text.push_str(&format!(
        "Welcome to the Apache Kafka metadata shell.\n\nusage:  {{{names}}} ...\n\npositional arguments:\n  {{{names}}}\n"
    ));
    COMMANDS.iter().for_each(|(name, _, doc)| text.push_str(&format!("    {name:<20} {doc}\n")));
}

/// Whether a name fits a pattern of `*` (anything) and `?` (one letter).
fn matches(pattern: &str, name: &str) -> bool {
    fn fits(pattern: &[char], name: &[char]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some(('*', rest)) => (0..=name.len()).any(|at| fits(rest, name.get(at..).unwrap_or_default())),
            Some(('?', rest)) => name.split_first().is_some_and(|(_, name)| fits(rest, name)),
            Some((letter, rest)) => name.split_first().is_some_and(|(first, name)| first == letter && fits(rest, name)),
        }
    }
    let letters = |text: &str| text.chars().collect::<Vec<char>>();
    fits(&letters(pattern), &letters(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn shell() -> Shell {
        let file = |text: &str| Node::File(text.into());
        let orders = BTreeMap::from([("0".to_string(), file("p0")), ("id".to_string(), file("x"))]);
        let topics = BTreeMap::from([("orders".to_string(), Node::Directory(orders))]);
        let root = BTreeMap::from([("topics".to_string(), Node::Directory(topics)), ("v".to_string(), file("1"))]);
        Shell::new(Node::Directory(root))
    }

    fn run(shell: &mut Shell, line: &str) -> String {
        let mut text = String::new();
        shell.execute(&line.split_whitespace().collect::<Vec<_>>(), &mut text);
        text
    }

    #[test]
    fn nodes_are_found_from_the_root_and_from_where_one_is() {
        let mut shell = shell();
        assert_eq!(run(&mut shell, "ls"), "topics\nv\n");
        assert_eq!(run(&mut shell, "cd topics/orders"), "");
        assert_eq!(run(&mut shell, "pwd"), "/topics/orders\n");
        assert_eq!(run(&mut shell, "cat id ../../v /topics"), "x\n1\ncat: /topics: Is a directory\n");
        assert_eq!(run(&mut shell, "cat *"), "p0\nx\n");
        assert_eq!(run(&mut shell, "find /topics"), "/topics\n/topics/orders\n/topics/orders/0\n/topics/orders/id\n");
        assert_eq!(run(&mut shell, "tree /topics"), "orders:\n  0:\n    p0\n  id:\n    x\n");
        assert_eq!(run(&mut shell, "ls / /v"), "v\n\n/:\ntopics\nv\n");
    }

    #[test]
    fn refusals_are_kafkas() {
        let mut shell = shell();
        assert_eq!(run(&mut shell, "cd v"), "cd: v: not a directory.\n");
        assert_eq!(run(&mut shell, "cat nope"), "cat: nope: No such file or directory.\n");
        assert_eq!(run(&mut shell, "cat"), "too few arguments\n");
        assert_eq!(run(&mut shell, "ls -l"), "unrecognized arguments: '-l'\n");
        assert!(run(&mut shell, "foo").starts_with("invalid choice: 'foo' (choose from 'cat', 'cd',"));
        assert_eq!(run(&mut shell, "man foo"), "man: unknown command foo. Type help to get a list of commands.\n");
    }
}
