"""What every other folder may use: errors, atomic files, command lines, run journals, tables, YAML to dataclasses."""
