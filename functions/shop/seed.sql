-- A few rows to try the shop with. Running it again changes nothing.

INSERT INTO public.users (id, email, name) VALUES
    (1, 'ada@example.com', 'Ada'),
    (2, 'grace@example.com', 'Grace')
ON CONFLICT DO NOTHING;

INSERT INTO public.products (id, name, price_cents, stock) VALUES
    (1, 'Teapot', 2499, 100000),
    (2, 'Cup', 650, 100000),
    (3, 'Limited print', 12000, 3)
ON CONFLICT DO NOTHING;

-- Identities go on after what was given by hand.
DO $$
BEGIN
    PERFORM setval(pg_get_serial_sequence('public.users', 'id'), (SELECT max(id) FROM public.users));
    PERFORM setval(pg_get_serial_sequence('public.products', 'id'), (SELECT max(id) FROM public.products));
END
$$;
