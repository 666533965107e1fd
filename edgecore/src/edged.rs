//! Edged: a small kubelet.
