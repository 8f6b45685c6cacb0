CREATE FUNCTION f AS 'com.example.F' USING JAR 'f.jar';
