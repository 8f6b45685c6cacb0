SELECT "name" FROM person;
