"""One pure function per attack: evidence in, statistic [C,S] out."""
