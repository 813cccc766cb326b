//! The runtime against real components: shipped plugins, and guests that misbehave on demand.

mod apply;
mod bulk;
mod cache;
mod limits;
mod load;
mod reads;
mod support;
mod text;
