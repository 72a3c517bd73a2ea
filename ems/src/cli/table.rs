//! Tables for terminals. Pure: rows in, text out.

/// Aligns rows below a header, two spaces between columns and none at the ends of lines. Empty cells show as `-`.
pub(super) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let shown = |cell: &str| {
        if cell.is_empty() {
            "-".to_owned()
        } else {
            plain(cell)
        }
    };
    let header = header.map(str::to_owned);
    let rows: Vec<[String; N]> = std::iter::once(header)
        .chain(
            rows.iter()
                .map(|row| row.each_ref().map(|cell| shown(cell))),
        )
        .collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            line.push_str(cell);
            let gap = width - cell.chars().count() + 2;
            line.extend(std::iter::repeat_n(' ', gap));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// With nothing in it that a terminal would obey: clients choose their ids and the names that they ask for.
pub(super) fn plain(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let row = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        assert_eq!(table(["NAME", "X"], &[]), "NAME  X\n");
        assert_eq!(
            table(["NAME", "X"], &[row("zürich-1", ""), row("a", "long")]),
            "NAME      X\nzürich-1  -\na         long\n"
        );
        assert_eq!(
            table(["NAME", "X"], &[row("a\n\u{1b}[31m", "\u{9b}1\u{7}")]),
            "NAME     X\na  [31m   1\n"
        );
    }
}
