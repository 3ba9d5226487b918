"""Search strategies, one file each; found through conf/strategy/<name>.yaml."""
