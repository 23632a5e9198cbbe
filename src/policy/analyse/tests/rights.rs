use super::World;
