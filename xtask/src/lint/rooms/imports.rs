//! Which file of a crate uses which other file of it, read from its source.
//!
//! A *use* is a path that leads to another module of the same crate: in a `use` item, an
//! expression, a type, a pattern, an attribute or the tokens of a macro. It is a use of the file
//! that holds the innermost module on the path: `crate::wire::addr::Addr` uses `wire/addr.rs` and
//! not `wire.rs`. A name that a module re-exports is a use of the module that re-exports it, for
//! that is the file which the reader is sent to. `mod x;` alone is no use.
//!
//! Code that only tests see (`#[cfg(test)]`, `#[cfg(all(test, ..))]`, `#[test]`) is left out.
//! Methods and trait implementations that are reached through a value leave no path behind and are
//! not seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use proc_macro2::{Span, TokenStream, TokenTree};
use syn::{
    Attribute, Expr, ExprLit, Item, ItemMod, ItemUse, Lit, Meta, UseTree, punctuated::Punctuated,
    spanned::Spanned as _, visit::Visit,
};

/// One use of another file of the crate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Import {
    /// The file that uses, as the path that its text was read from.
    pub(crate) from: PathBuf,
    /// The line of the use, counted from 1.
    pub(crate) line: usize,
    /// The file that is used.
    pub(crate) to: PathBuf,
    /// The path as it is written there.
    pub(crate) path: String,
}

/// The files of a crate and what each uses of the others.
pub(crate) struct Crate {
    /// Each file with the module that it holds: no segment for the crate's root.
    pub(crate) files: BTreeMap<PathBuf, Vec<String>>,
    /// Ordered by file and line.
    pub(crate) imports: Vec<Import>,
}

/// Reads the crate whose root (main.rs or lib.rs) is `root`, following its `mod` items; `read`
/// gives a file's text, and `None` where there is no such file.
///
/// Fails when a file is no Rust, or when a module's file is not there.
pub(crate) fn read_crate(
    root: &Path,
    read: &dyn Fn(&Path) -> Option<String>,
) -> anyhow::Result<Crate> {
    let mut tree = Tree {
        read,
        modules: BTreeMap::new(),
        files: BTreeMap::new(),
        parsed: Vec::new(),
    };
    let folder = root.parent().unwrap_or(Path::new("")).to_owned();
    tree.add_file(root, Vec::new(), folder)?;
    let mut imports = BTreeSet::new();
    for (file, module, items) in &tree.parsed {
        let mut found = Found {
            modules: &tree.modules,
            file,
            module: module.clone(),
            imported: BTreeMap::new(),
            imports: &mut imports,
        };
        found.items(items);
    }
    Ok(Crate {
        files: tree.files,
        imports: imports.into_iter().collect(),
    })
}

/// The modules of a crate while they are read.
struct Tree<'a> {
    read: &'a dyn Fn(&Path) -> Option<String>,
    /// Each module with the file that holds it; a module in braces lies in its parent's file.
    modules: BTreeMap<Vec<String>, PathBuf>,
    files: BTreeMap<PathBuf, Vec<String>>,
    parsed: Vec<(PathBuf, Vec<String>, Vec<Item>)>,
}

impl Tree<'_> {
    /// Reads the file of `module`; the files of its children lie in `folder`.
    fn add_file(
        &mut self,
        file: &Path,
        module: Vec<String>,
        folder: PathBuf,
    ) -> anyhow::Result<()> {
        let text = (self.read)(file).with_context(|| format!("cannot read {}", file.display()))?;
        let items = syn::parse_file(&text)
            .map_err(|error| {
                let line = error.span().start().line;
                anyhow::anyhow!("{}:{line}: {error}", file.display())
            })?
            .items;
        self.modules.insert(module.clone(), file.to_owned());
        self.files.insert(file.to_owned(), module.clone());
        self.add_children(file, &module, &folder, &items)?;
        self.parsed.push((file.to_owned(), module, items));
        Ok(())
    }

    fn add_children(
        &mut self,
        file: &Path,
        module: &[String],
        folder: &Path,
        items: &[Item],
    ) -> anyhow::Result<()> {
        for item in items {
            let Item::Mod(child) = item else { continue };
            if only_for_tests(&child.attrs) {
                continue;
            }
            let name = name_of(&child.ident);
            let mut path = module.to_vec();
            path.push(name.clone());
            let inside = folder.join(&name);
            if let Some((_, items)) = &child.content {
                self.modules.insert(path.clone(), file.to_owned());
                self.add_children(file, &path, &inside, items)?;
                continue;
            }
            let (source, inside) = match path_attribute(child) {
                // Its own children lie beside it.
                Some(given) => {
                    let source = tidy(&file.parent().unwrap_or(Path::new("")).join(given));
                    let beside = source.parent().unwrap_or(Path::new("")).to_owned();
                    (source, beside)
                }
                None => {
                    let flat = folder.join(format!("{name}.rs"));
                    let nested = inside.join("mod.rs");
                    let source = [flat, nested]
                        .into_iter()
                        .find(|candidate| (self.read)(candidate).is_some());
                    let Some(source) = source else {
                        bail!(
                            "{}:{}: `mod {name};` has no file",
                            file.display(),
                            child.span().start().line
                        );
                    };
                    (source, inside)
                }
            };
            self.add_file(&source, path, inside)?;
        }
        Ok(())
    }
}

/// The `#[path = ".."]` of a module.
fn path_attribute(module: &ItemMod) -> Option<String> {
    module.attrs.iter().find_map(|attribute| {
        let Meta::NameValue(pair) = &attribute.meta else {
            return None;
        };
        let Expr::Lit(ExprLit {
            lit: Lit::Str(text),
            ..
        }) = &pair.value
        else {
            return None;
        };
        pair.path.is_ident("path").then(|| text.value())
    })
}

/// `path` without its `..` and `.`.
fn tidy(path: &Path) -> PathBuf {
    let mut tidied = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                tidied.pop();
            }
            std::path::Component::CurDir => {}
            other => tidied.push(other),
        }
    }
    tidied
}

/// Whether an item with these attributes exists in tests only.
fn only_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || (attribute.path().is_ident("cfg")
                && attribute
                    .parse_args::<Meta>()
                    .is_ok_and(|condition| demands_test(&condition)))
    })
}

fn demands_test(condition: &Meta) -> bool {
    match condition {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("all") => list
            .parse_args_with(Punctuated::<Meta, syn::Token![,]>::parse_terminated)
            .is_ok_and(|all| all.iter().any(demands_test)),
        _ => false,
    }
}

/// A name without `r#`.
fn name_of(ident: &syn::Ident) -> String {
    ident.to_string().trim_start_matches("r#").to_owned()
}

/// The uses in one file, while it is walked through.
struct Found<'a> {
    modules: &'a BTreeMap<Vec<String>, PathBuf>,
    file: &'a Path,
    /// The module that the walk is in.
    module: Vec<String>,
    /// The modules that `use` items gave a name here.
    imported: BTreeMap<String, Vec<String>>,
    imports: &'a mut BTreeSet<Import>,
}

impl Found<'_> {
    /// Walks through a module's items: its imports first, for they name what the others say.
    fn items(&mut self, items: &[Item]) {
        for item in items {
            if let Item::Use(item) = item
                && !only_for_tests(&item.attrs)
            {
                self.use_tree(&item.tree, &mut Vec::new());
            }
        }
        for item in items {
            if !matches!(item, Item::Use(_)) {
                self.visit_item(item);
            }
        }
    }

    fn use_tree(&mut self, tree: &UseTree, prefix: &mut Vec<(String, Span)>) {
        match tree {
            UseTree::Path(path) => {
                prefix.push((name_of(&path.ident), path.ident.span()));
                self.use_tree(&path.tree, prefix);
                prefix.pop();
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.use_tree(tree, prefix);
                }
            }
            UseTree::Glob(_) => {
                self.path(prefix);
            }
            UseTree::Name(_) | UseTree::Rename(_) => {
                let (ident, name) = match tree {
                    UseTree::Rename(rename) => (&rename.ident, &rename.rename),
                    UseTree::Name(name) => (&name.ident, &name.ident),
                    _ => return,
                };
                let is_self = ident == "self";
                if !is_self {
                    prefix.push((name_of(ident), ident.span()));
                }
                let given = if is_self && name == "self" {
                    prefix.last().map(|(name, _)| name.clone())
                } else {
                    Some(name_of(name))
                };
                if let (Some(module), Some(given)) = (self.path(prefix), given) {
                    self.imported.insert(given, module);
                }
                if !is_self {
                    prefix.pop();
                }
            }
        }
    }

    /// Notes the use that `segments` is, if they lead to another file; gives the module that they
    /// name, if they name one.
    fn path(&mut self, segments: &[(String, Span)]) -> Option<Vec<String>> {
        let (first, span) = segments.first()?;
        let mut rest = segments.iter().map(|(name, _)| name).peekable();
        let mut module = match first.as_str() {
            "crate" => {
                rest.next();
                Vec::new()
            }
            "self" | "super" => {
                let mut module = self.module.clone();
                rest.next_if(|name| *name == "self");
                while rest.next_if(|name| *name == "super").is_some() {
                    module.pop();
                }
                module
            }
            name => {
                let mut child = self.module.clone();
                child.push(name.to_owned());
                let module = if self.modules.contains_key(&child) {
                    child
                } else {
                    self.imported.get(name)?.clone()
                };
                rest.next();
                module
            }
        };
        while let Some(name) = rest.peek() {
            module.push((*name).clone());
            if !self.modules.contains_key(&module) {
                module.pop();
                break;
            }
            rest.next();
        }
        let is_module = rest.peek().is_none();
        let to = self.modules.get(&module)?;
        if to != self.file {
            self.imports.insert(Import {
                from: self.file.to_owned(),
                line: span.start().line,
                to: to.clone(),
                path: segments
                    .iter()
                    .map(|(name, _)| name.as_str())
                    .collect::<Vec<_>>()
                    .join("::"),
            });
        }
        is_module.then_some(module)
    }

    /// The paths in a macro's tokens: names with `::` between them.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<(String, Span)> = Vec::new();
        // How many of the two colons after a name have been seen.
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.end_of_path(&mut path);
                    }
                    path.push((name_of(&ident), ident.span()));
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => {
                    colons += 1;
                }
                TokenTree::Group(group) => {
                    self.end_of_path(&mut path);
                    colons = 0;
                    self.tokens(group.stream());
                }
                _ => {
                    self.end_of_path(&mut path);
                    colons = 0;
                }
            }
        }
        self.end_of_path(&mut path);
    }

    fn end_of_path(&mut self, path: &mut Vec<(String, Span)>) {
        // One name alone is a variable far more often than a module.
        if path.len() > 1 {
            self.path(path);
        }
        path.clear();
    }
}

impl<'ast> Visit<'ast> for Found<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !only_for_tests(attributes_of(item)) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let Some((_, items)) = &item.content else {
            return;
        };
        self.module.push(name_of(&item.ident));
        let outside = std::mem::take(&mut self.imported);
        self.items(items);
        self.imported = outside;
        self.module.pop();
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !only_for_tests(&function.attrs) {
            syn::visit::visit_impl_item_fn(self, function);
        }
    }

    /// A `use` within a function: its names are taken to hold in the whole file.
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.use_tree(&item.tree, &mut Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() && path.segments.len() > 1 {
            let segments: Vec<_> = path
                .segments
                .iter()
                .map(|segment| (name_of(&segment.ident), segment.ident.span()))
                .collect();
            self.path(&segments);
        }
        syn::visit::visit_path(self, path);
    }

    /// `pub(in crate::wire)` and `pub(super)` say who may see an item, and use nothing.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        syn::visit::visit_macro(self, call);
        self.tokens(call.tokens.clone());
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        syn::visit::visit_meta_list(self, list);
        self.tokens(list.tokens.clone());
    }
}

fn attributes_of(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the crate of these files uses: "from:line to path", ordered.
    fn uses(files: &[(&str, &str)]) -> Vec<String> {
        let read = |path: &Path| {
            let (_, text) = files.iter().find(|(name, _)| Path::new(name) == path)?;
            Some((*text).to_owned())
        };
        let found = read_crate(Path::new("main.rs"), &read).expect("a crate that parses");
        found
            .imports
            .iter()
            .map(|import| {
                format!(
                    "{}:{} {} {}",
                    import.from.display(),
                    import.line,
                    import.to.display(),
                    import.path
                )
            })
            .collect()
    }

    #[test]
    fn a_use_is_one_of_the_file_that_holds_the_innermost_module() {
        let cases = [
            ("use crate::a::X;", "a.rs"),
            ("use crate::a::b::X;", "a/b.rs"),
            ("use crate::a::b;", "a/b.rs"),
            ("use crate::a::{b::{self, X}};", "a/b.rs"),
            ("use super::a::b::*;", "a/b.rs"),
            ("use super::a::*;", "a.rs"),
            ("use self::own::X;", "user/own.rs"),
            ("pub(crate) use own::X;", "user/own.rs"),
            (
                "use crate::a::b as renamed; fn f() { renamed::g() }",
                "a/b.rs",
            ),
            ("fn f() { crate::a::b::g(); }", "a/b.rs"),
            ("fn f() -> super::a::b::X { loop {} }", "a/b.rs"),
            ("fn f() { own::g::<u8>(); }", "user/own.rs"),
            ("fn f() { use crate::a::X; }", "a.rs"),
            ("fn f() { println!(\"{}\", crate::a::b::X) }", "a/b.rs"),
            ("fn f() { vec![super::a::X; 3]; }", "a.rs"),
            ("macro_rules! m { () => { $crate::a::b::g() } }", "a/b.rs"),
            ("#[derive(crate::a::X)] struct S;", "a.rs"),
            ("mod inner { use super::super::a::X; }", "a.rs"),
        ];
        for (source, to) in cases {
            let user = format!("mod own;\n{source}");
            let found = uses(&[
                ("main.rs", "mod a; mod user;"),
                ("a.rs", "pub(crate) mod b;"),
                ("a/b.rs", ""),
                ("user.rs", &user),
                ("user/own.rs", ""),
            ]);
            assert!(
                !found.is_empty()
                    && found
                        .iter()
                        .all(|line| line.starts_with(&format!("user.rs:2 {to} "))),
                "{source}: {found:?}"
            );
        }
    }

    #[test]
    fn a_name_that_is_re_exported_is_a_use_of_the_file_that_re_exports_it() {
        let found = uses(&[
            ("main.rs", "mod a; mod user;"),
            ("a.rs", "mod b; pub(crate) use self::b::X;"),
            ("a/b.rs", "pub(crate) struct X;"),
            ("user.rs", "use crate::a::X;"),
        ]);
        assert_eq!(
            found,
            ["a.rs:1 a/b.rs self::b::X", "user.rs:1 a.rs crate::a::X"]
        );
    }

    #[test]
    fn what_only_tests_see_and_what_other_crates_have_is_no_use() {
        let cases = [
            "#[cfg(test)] mod tests { use super::*; use crate::a::X; }",
            "#[cfg(test)] mod tests;",
            "#[cfg(test)] use crate::a::X;",
            "#[cfg(all(test, unix))] mod tests { use crate::a::X; }",
            "#[test] fn f() { crate::a::g(); }",
            "struct S; impl S { #[cfg(test)] fn f() { crate::a::g(); } }",
            "use std::a::X; use a::X;",
            "fn f() { ::a::g(); a::g(); }",
            "pub(in crate::user) struct S;",
            "enum E { A } use self::E::A; use E::*;",
            "mod inner { use super::S; }",
        ];
        for source in cases {
            let found = uses(&[
                ("main.rs", "mod a; mod user;"),
                ("a.rs", ""),
                ("user.rs", source),
            ]);
            assert_eq!(found, [""; 0], "{source}");
        }
    }

    #[test]
    fn a_module_lies_where_rustc_looks_for_it() {
        let found = uses(&[
            (
                "main.rs",
                "mod a; #[path = \"inline/../shared/layout.rs\"] mod layout; mod inline { mod deep; }",
            ),
            ("a/mod.rs", "mod b;"),
            ("a/b.rs", "use crate::layout::X;"),
            ("inline/deep.rs", "use crate::a;"),
            ("shared/layout.rs", ""),
        ]);
        assert_eq!(
            found,
            [
                "a/b.rs:1 shared/layout.rs crate::layout::X",
                "inline/deep.rs:1 a/mod.rs crate::a"
            ]
        );
    }

    #[test]
    fn a_module_without_a_file_and_a_file_that_is_no_rust_are_errors() {
        let cases = [
            ("mod gone;", "main.rs:1: `mod gone;` has no file"),
            ("fn ;", "main.rs:1: expected identifier"),
        ];
        for (source, message) in cases {
            let read = |path: &Path| (path == Path::new("main.rs")).then(|| source.to_owned());
            let error = read_crate(Path::new("main.rs"), &read)
                .err()
                .expect("an error");
            assert_eq!(error.to_string(), message);
        }
    }
}
