//! Set-up, build, dev, test and benchmarks: run cargo xtask help

fn main() -> anyhow::Result<()> {
    for package in mortise_artifacts::SHIPPED {
        println!("{}", mortise_artifacts::component(package)?.display());
    }
    Ok(())
}
