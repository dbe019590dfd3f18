//! Whether a program can take the preloaded library. Pure: bytes of its file come in, an answer with its reason comes
//! out.
