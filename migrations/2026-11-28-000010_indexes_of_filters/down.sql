DROP INDEX entitlements_of_a_feature;
DROP INDEX charges_of_a_reference;
DROP INDEX charges_of_a_status;
DROP INDEX orders_of_a_status;
DROP INDEX orders_of_a_customer;
