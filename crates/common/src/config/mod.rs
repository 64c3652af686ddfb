//! Configuration keys: declared once as a table, from which validation, DescribeConfigs, the docs and the samples follow.
