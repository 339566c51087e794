//! Numbers that can be trusted and read: [`verify`] makes the figures of a run again from its records, [`Report`] compares
//! any number of runs in tables and plots, [`Routing`] fits routers between two methods.
//!
//! A run directory goes in ([`RunFiles`] says which files it has), nothing is written but what is asked for, and no model
//! is loaded. Both read the records that `c2c-eval` wrote; the figures are made by the same functions that made those of
//! the run.
//!
//! Invariants:
//! - a run that can't be read is named with the reason, and doesn't keep the others from being reported;
//! - memory doesn't grow with the records: each run is scanned lazily, reduced to counts, and let go;
//! - results of part of a benchmark are marked PARTIAL in every output.

mod error;
mod plot;
mod report;
mod route;
mod run;
mod seal;
mod table;
mod verify;

pub use error::ReportError;
pub use plot::{CacheOf, CachePanel, HeadPanel, HeadRow, cache_maps, head_fields};
pub use report::{By, Filter, Options, Report};
pub use route::{Form, Router, Routing};
pub use run::{RunFiles, find_runs};
pub use seal::seal;
pub use table::{Cell, Column, Kind, Table};
pub use verify::{Difference, Verdict, verify};
