SELECT a.x FROM a ASOF JOIN b MATCH_CONDITION (a.ts + 1 >= b.ts) ON a.k = b.k;
