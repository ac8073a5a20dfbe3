-- The shop's tables (functions/shop/schema.sql) with 1,000 users and 1,000 products that never run out.
INSERT INTO public.users (email, name)
SELECT 'user' || n || '@example.com', 'User ' || n FROM generate_series(1, 1000) AS n;
INSERT INTO public.products (name, price_cents, stock)
SELECT 'Product ' || n, n, 1000000000 FROM generate_series(1, 1000) AS n;
VACUUM ANALYZE public.users, public.products;
