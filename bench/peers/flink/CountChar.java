package com.github.nexmark.flink.udf;

import org.apache.flink.table.functions.ScalarFunction;

/** How often a character stands in a text: what q14 calls. */
public class CountChar extends ScalarFunction {
    public long eval(String text, String character) {
        if (text == null || character == null || character.isEmpty()) return 0;
        char wanted = character.charAt(0);
        long count = 0;
        for (int at = 0; at < text.length(); at++) {
            if (text.charAt(at) == wanted) count++;
        }
        return count;
    }
}
