//! Writes the generated part of `docs/recipes.md` anew.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/recipes.md");
    let document = std::fs::read_to_string(&path)?;
    let fresh = c2c_recipe::reference::refresh(&document).ok_or("docs/recipes.md lacks the two marker lines")?;
    std::fs::write(&path, fresh)?;
    Ok(())
}
