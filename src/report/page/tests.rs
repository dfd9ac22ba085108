//! Whole pages.

use super::*;
