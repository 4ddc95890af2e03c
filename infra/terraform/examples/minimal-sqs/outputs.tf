output "tidegate" {
  description = "Everything that the module tells."
  value       = module.tidegate
}
