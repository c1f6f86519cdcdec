DROP INDEX refunds_of_a_reference;
