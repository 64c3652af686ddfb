//! The table that several of Kafka's tools print: cells as wide as their column, a tab after each. Pure.

/// The table, a line break after each row.
pub(super) fn text_table(head: &[&str], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = head
        .iter()
        .enumerate()
        .map(|(column, name)| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.max().unwrap_or(0).max(name.chars().count())
        })
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: String = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}\t")).collect();
        format!("{cells}\n")
    };
    let mut text = line(&mut head.iter().copied());
    rows.iter().for_each(|row| text.push_str(&line(&mut row.iter().map(String::as_str))));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_ends_with_a_tab() {
        assert_eq!(text_table(&["A", "Long"], &[vec!["12".into(), "x".into()]]), "A \tLong\t\n12\tx   \t\n");
    }
}
