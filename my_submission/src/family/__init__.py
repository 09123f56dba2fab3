"""Public models of this architecture: other programs' configs (foreign_config), files (model_files) and procedure (msst)."""
