//! Checks against traffic recorded from real KubeEdge programs (the files in `golden/`).
