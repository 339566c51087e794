//! Tables for readers: aligned text and Markdown.

use super::{Cell, Kind, Table};

impl Kind {
    fn is_left(self) -> bool {
        self == Self::Text
    }

    /// A value as a reader sees it.
    pub(crate) fn show(self, cell: &Cell) -> String {
        match (self, cell) {
            (_, Cell::Nothing) => "-".to_owned(),
            (_, Cell::Text(text)) => text.clone(),
            (_, Cell::Count(count)) => grouped(*count),
            (_, Cell::Number(number)) if !number.is_finite() => "-".to_owned(),
            (Self::Share, Cell::Number(share)) => format!("{:.1} %", 100.0 * share),
            (Self::Points, Cell::Number(points)) => format!("{:+.1}", 100.0 * points),
            (Self::Milliseconds, Cell::Number(ms)) => format!("{ms:.2}"),
            (Self::P, Cell::Number(p)) if *p >= 1e-3 => format!("{p:.3}"),
            (Self::P, Cell::Number(p)) => format!("{p:.1e}"),
            (_, Cell::Number(number)) => format!("{number:.4}"),
        }
    }
}

/// A count with its thousands apart.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl Table {
    /// Title, columns and at most `max_rows` rows as aligned text; what is left out is said in the last line.
    pub fn text(&self, max_rows: Option<usize>) -> String {
        let shown = self.shown(max_rows);
        let mut rows = vec![self.columns.iter().map(|column| column.name.replace('_', " ")).collect::<Vec<_>>()];
        rows.extend(self.cells(shown));
        let mut text = format!("{}\n", self.title);
        for row in aligned(&rows, &self.columns.iter().map(|c| c.kind.is_left()).collect::<Vec<_>>()) {
            text.push_str(&format!("  {row}\n"));
        }
        self.left_out(shown, "  ", &mut text);
        text
    }

    /// The same in Markdown, with the sentence that explains it.
    pub fn markdown(&self, max_rows: Option<usize>) -> String {
        let shown = self.shown(max_rows);
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = format!("## {}\n\n{}\n\n", self.title, self.about);
        text.push_str(&line(&self.columns.iter().map(|c| c.name.replace('_', " ")).collect::<Vec<_>>()));
        text.push_str(&line(
            &self.columns.iter().map(|c| if c.kind.is_left() { ":--" } else { "--:" }.to_owned()).collect::<Vec<_>>(),
        ));
        for row in self.cells(shown) {
            text.push_str(&line(
                &row.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect::<Vec<_>>(),
            ));
        }
        if shown < self.rows.len() {
            text.push('\n');
        }
        self.left_out(shown, "", &mut text);
        text
    }

    fn shown(&self, max_rows: Option<usize>) -> usize {
        max_rows.unwrap_or(usize::MAX).min(self.rows.len())
    }

    fn cells(&self, shown: usize) -> impl Iterator<Item = Vec<String>> {
        let show =
            |row: &Vec<Cell>| row.iter().zip(&self.columns).map(|(cell, column)| column.kind.show(cell)).collect();
        self.rows[..shown].iter().map(show)
    }

    fn left_out(&self, shown: usize, indent: &str, text: &mut String) {
        if shown < self.rows.len() {
            let left = grouped((self.rows.len() - shown) as u64);
            text.push_str(&format!(
                "{indent}and {left} more rows: --rows 0 shows all, --out DIR writes them to files\n"
            ));
        }
    }
}

/// Rows with their cells under each other, two spaces between columns.
fn aligned(rows: &[Vec<String>], left: &[bool]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..left.len()).map(width).collect();
    let cell = |(text, (width, left)): (&String, (&usize, &bool))| match left {
        true => format!("{text:<width$}"),
        false => format!("{text:>width$}"),
    };
    let line = |row: &Vec<String>| {
        row.iter().zip(widths.iter().zip(left)).map(cell).collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let columns = [
            ("method", Kind::Text),
            ("n", Kind::Count),
            ("accuracy", Kind::Share),
            ("gain", Kind::Points),
            ("p", Kind::P),
        ];
        let mut table = Table::new("accuracy", "Accuracy", "What it is.", &columns);
        table.rows.push(vec!["c2c".into(), 1288usize.into(), 0.9896.into(), 0.7257.into(), 3.2e-31.into()]);
        table.rows.push(vec!["a|b".into(), 5usize.into(), 1.0.into(), Cell::Nothing, 0.0314.into()]);
        table
    }

    #[test]
    fn text_by_hand() {
        let expected = "\
Accuracy
  method      n  accuracy   gain        p
  c2c     1,288    99.0 %  +72.6  3.2e-31
  a|b         5   100.0 %      -    0.031
";
        assert_eq!(table().text(None), expected);
        assert!(
            table()
                .text(Some(1))
                .ends_with("3.2e-31\n  and 1 more rows: --rows 0 shows all, --out DIR writes them to files\n")
        );
    }

    #[test]
    fn markdown_by_hand() {
        let expected = "\
## Accuracy

What it is.

| method | n | accuracy | gain | p |
| :-- | --: | --: | --: | --: |
| c2c | 1,288 | 99.0 % | +72.6 | 3.2e-31 |
| a\\|b | 5 | 100.0 % | - | 0.031 |
";
        assert_eq!(table().markdown(None), expected);
    }

    #[test]
    fn columns_that_tell_nothing_can_go() {
        let mut table = table();
        for row in &mut table.rows {
            row[1] = Cell::Count(7);
        }
        let names = |table: &Table| table.columns.iter().map(|c| c.name.clone()).collect::<Vec<_>>().join(" ");
        let less = table.clone().without_constant(&["method", "n"]);
        assert_eq!(names(&less), "method accuracy gain p");
        assert!(less.rows.iter().all(|row| row.len() == 4));
        assert_eq!(names(&table.without_constant(&[])), "method n accuracy gain p");
    }
}
