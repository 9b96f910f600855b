//! Where lines go.

use std::io::Write;

use reedline::ExternalPrinter;

use crate::line::{self, Line};

pub(crate) enum Screen {
    /// Standard output, one line for each thing; problems to standard error.
    Plain,
    /// Above what is being typed.
    Terminal(ExternalPrinter<String>),
}

impl Screen {
    pub(crate) fn show(&mut self, line: &Line) -> anyhow::Result<()> {
        match self {
            Self::Plain => match (line.plain(), line) {
                // Written at once: a script at the other end of a pipe waits for it.
                (Some(plain), _) => {
                    let mut stdout = std::io::stdout().lock();
                    writeln!(stdout, "{plain}")?;
                    stdout.flush()?;
                }
                (None, Line::Problem(problem)) => eprintln!("ringpost chat: {problem}"),
                (None, _) => {}
            },
            Self::Terminal(printer) => printer.print(line.pretty(&line::now()))?,
        }
        Ok(())
    }
}
