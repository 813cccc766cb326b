//! Builds plugins and bad guests to components
