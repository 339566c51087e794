//! What an evaluation's accuracies are made of, as plain text: a line a benchmark and category, a column a method.

use crate::{Average, Evaluation};

/// A line: its name, its questions, a share a method.
type Line = (String, String, Vec<String>);

impl Evaluation {
    /// Lines by benchmark, category and average, with an empty one before them; nothing of one benchmark in which subjects make
    /// no difference, for which the table says all.
    pub(crate) fn breakdown(&self) -> String {
        let methods: Vec<_> = self.results.iter().map(|result| result.method).collect();
        let averages: Vec<_> = methods.iter().map(|method| self.averages(*method)).collect();
        let benchmarks = averages.iter().map(Vec::len).min().unwrap_or(0);
        // Subjects of one size make no difference.
        let uneven = |average: &Average| (average.macro_ - average.micro.accuracy).abs() > 1e-9;
        let head = methods.iter().map(ToString::to_string).collect();
        let mut lines: Vec<Line> = vec![("accuracy on".to_owned(), "questions".to_owned(), head)];
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        for place in 0..benchmarks {
            let of: Vec<_> = averages.iter().map(|averages| &averages[place].1).collect();
            let micro = |name: String, averages: Vec<&Average>| {
                let shares = averages.iter().map(|average| percent(average.micro.accuracy)).collect();
                (name, averages[0].micro.total.to_string(), shares)
            };
            lines.push(micro(averages[0][place].0.to_owned(), of.iter().map(|one| &one.all).collect()));
            // All methods have answered the same questions, so their categories are the same, too.
            for (place, category) in of[0].categories.iter().enumerate() {
                let of_category = of.iter().filter_map(|one| Some(&one.categories.get(place)?.average));
                lines.push(micro(format!("  {}", category.name), of_category.collect()));
            }
            if of.iter().any(|one| uneven(&one.all)) {
                let name = format!("  mean of {} subjects", of[0].all.subjects);
                lines.push((name, String::new(), of.iter().map(|one| percent(one.all.macro_)).collect()));
            }
            if of[0].mean_of_categories().is_some() {
                let name = format!("  mean of {} categories", of[0].categories.len());
                let means = of.iter().map(|one| one.mean_of_categories().map_or_else(String::new, percent));
                lines.push((name, String::new(), means.collect()));
            }
        }
        match lines.len() {
            // The head and one benchmark.
            ..=2 => String::new(),
            _ => format!("\n{}", aligned(&lines)),
        }
    }
}

/// Names flush left, everything else flush right.
fn aligned(lines: &[Line]) -> String {
    let widest = |texts: &mut dyn Iterator<Item = &String>| texts.map(|text| text.chars().count()).max().unwrap_or(0);
    let name = widest(&mut lines.iter().map(|line| &line.0));
    let questions = widest(&mut lines.iter().map(|line| &line.1));
    let columns = lines.first().map_or(0, |line| line.2.len());
    let shares: Vec<usize> =
        (0..columns).map(|column| widest(&mut lines.iter().filter_map(|line| line.2.get(column)))).collect();
    let mut text = String::new();
    for line in lines {
        text.push_str(&format!("{:<name$}  {:>questions$}", line.0, line.1));
        for (share, width) in line.2.iter().zip(&shares) {
            text.push_str(&format!("  {share:>width$}"));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use crate::Evaluation;
    use crate::record::tests::evaluation;

    /// The evaluation by hand, with other benchmarks and subjects: four questions, three methods.
    fn told(subjects: [(&str, Option<&str>); 4]) -> String {
        let mut records = evaluation().records;
        for (place, record) in records.iter_mut().enumerate() {
            let (benchmark, subject) = subjects[place % 4];
            (record.benchmark, record.subject) = (benchmark.to_owned(), subject.map(str::to_owned));
        }
        let methods: Vec<_> = evaluation().results.iter().map(|result| result.method).collect();
        Evaluation::of(records, &methods, None).unwrap().breakdown()
    }

    #[test]
    fn benchmarks_categories_and_means_by_hand() {
        let stones = ("stones", None);
        assert_eq!(told([stones; 4]), "");
        assert_eq!(
            told([("stones", Some("a")), ("stones", Some("b")), ("stones", Some("a")), ("stones", Some("b"))]),
            ""
        );
        let ceval = |subject| ("ceval", Some(subject));
        let found = told([stones, ceval("logic"), ceval("logic"), ceval("physician")]);
        // The receiver is right on the second question, C2C on all, the control on the first two.
        let expected = "
accuracy on             questions  receiver      c2c  mismatched
stones                          1     0.0 %  100.0 %     100.0 %
ceval                           3    33.3 %  100.0 %      33.3 %
  humanities                    2    50.0 %  100.0 %      50.0 %
  other                         1     0.0 %  100.0 %       0.0 %
  mean of 2 subjects                 25.0 %  100.0 %      25.0 %
  mean of 2 categories               25.0 %  100.0 %      25.0 %
";
        assert_eq!(found, expected);
    }
}
