//! What would go wrong later in a dispatch, found before anything starts.
