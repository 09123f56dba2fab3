"""Small parts that every other folder may use: errors, atomic files, command lines, journals, tables, YAML to dataclasses."""
