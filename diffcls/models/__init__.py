"""Model families behind the one `Denoiser` contract: one file a family."""
